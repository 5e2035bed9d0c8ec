"""The options of every command: folders of tenants and state, port, output for a program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from assistant.settings.local_models import TenantModels
    from assistant.settings.process import LocalSettings
    from assistant.settings.tenant import TenantConfig, TenantFiles
    from assistant.wiring.stores import TenantStores

_WITH_VALUE = ("--tenants", "--state", "--port")
_WITHOUT_VALUE = ("--json",)

Tenant = Annotated[str, typer.Option("--tenant", metavar="T", help="Name of a tenant file.")]
"""The option of every command that works for one tenant."""


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    tenants_dir: Path
    state_dir: Path
    port: int | None
    """None: the port of the settings, or of what runs already."""
    json: bool
    _warned: set[str] = field(default_factory=set[str], compare=False)
    """Tenants whose wrong file this command has already reported."""

    @classmethod
    def of(cls, context: typer.Context) -> GlobalOptions:
        found: object = context.obj
        assert isinstance(found, cls)  # noqa: S101 - the callback in main.py always sets it
        return found

    def local_settings(self) -> LocalSettings:
        """Return the settings of the local processes. Raises ConfigurationError."""
        from assistant.settings.process import LocalSettings

        return LocalSettings.read(**({} if self.port is None else {"port": self.port}))

    def service_token(self, *, of: str) -> str:
        """Return the token for a service elsewhere; ``of``: whose it must be. Raises ConfigurationError."""
        from assistant.domain.errors import ConfigurationError

        settings = self.local_settings()
        if settings.service_token is None:
            name = settings.variable("service_token")
            raise ConfigurationError(f"{name} must hold {of} token of the service.")
        return settings.service_token

    def tenants(self) -> TenantFiles:
        """Return every tenant with the models that it uses here; report refused files on stderr.

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
        """Return one tenant by its exact name. Raises ConfigurationError where its file is wrong."""
        files = self._tenant_files()
        tenant = files.one(name)
        self.tenants()
        return tenant

    def stores(self, tenant: str) -> AbstractAsyncContextManager[TenantStores]:
        """Open one tenant's stores under the state folder."""
        from assistant.wiring.stores import open_stores

        return open_stores(self.tenant(tenant), state_dir=self.state_dir.resolve())

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
    """Return the arguments with the global options first, wherever they were before a ``--``."""
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
