"""The options of every command: where the tenants and the state are, which ports, whether a program reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from assistant.settings.local_models import TenantModels
    from assistant.settings.process import LocalSettings
    from assistant.settings.tenant import TenantConfig, TenantFiles

_WITH_VALUE = ("--tenants", "--state", "--port")
_WITHOUT_VALUE = ("--json",)


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    tenants_dir: Path
    state_dir: Path
    port: int | None
    """None where none was asked for: then that of the settings, or of what runs already."""
    json: bool
    _warned: set[str] = field(default_factory=set[str], compare=False)
    """Tenants whose file this command has named as wrong already."""

    @classmethod
    def of(cls, context: typer.Context) -> GlobalOptions:
        found: object = context.obj
        assert isinstance(found, cls)  # noqa: S101 - the callback in main.py always sets it
        return found

    def local_settings(self) -> LocalSettings:
        """Return the supervisor's settings. Raises ConfigurationError."""
        from assistant.settings.process import LocalSettings

        return LocalSettings.read(**({} if self.port is None else {"port": self.port}))

    def tenants(self) -> TenantFiles:
        """Return every tenant with the models that it uses here, and say on stderr which ones are left out.

        Raises ConfigurationError when none is left.
        """
        files = self._tenant_files()
        for name, error in files.refused.items():
            if name not in self._warned:
                self._warned.add(name)
                typer.echo(f"assistant: warning: {error.message}\n  Tenant {name} is left out.", err=True)
        return files

    def local_models(self, tenants: Iterable[str]) -> dict[str, TenantModels]:
        """Return the added models that each tenant uses here. Raises ConfigurationError."""
        from assistant.local.layout import models_dir
        from assistant.settings.local_models import local_models

        return local_models(models_dir(self.state_dir), tenants)

    def tenant(self, name: str) -> TenantConfig:
        """Return one tenant by its exact name. Raises ConfigurationError, whole, where its file is wrong."""
        files = self._tenant_files()
        tenant = files.one(name)
        self.tenants()
        return tenant

    def _tenant_files(self) -> TenantFiles:
        from assistant.domain.errors import ConfigurationError
        from assistant.settings.tenant import load_tenants

        files = load_tenants(self.tenants_dir)
        served: dict[str, TenantConfig] = {}
        refused: dict[str, ConfigurationError] = {}
        for name, tenant in files.tenants.items():
            try:
                served[name] = self.local_models([name])[name].applied_to(tenant)
            except ConfigurationError as error:
                refused[name] = error
        if not served:
            raise next(iter(refused.values()))
        return replace(files.without(refused), tenants=served)


def hoist(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the global options first, wherever they stood before a ``--``."""
    hoisted: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            others += [argument, *rest]
        elif argument in _WITH_VALUE:
            hoisted += [argument, *(value for value in [next(rest, None)] if value is not None)]
        elif argument in _WITHOUT_VALUE or argument.startswith(tuple(f"{name}=" for name in _WITH_VALUE)):
            hoisted.append(argument)
        else:
            others.append(argument)
    return hoisted + others
