"""The options of every command: where the tenants and the state are, which ports, whether a program reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from assistant.settings import LocalSettings, TenantConfig, TenantModels

_WITH_VALUE = ("--tenants", "--state", "--port")
_WITHOUT_VALUE = ("--json",)


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    tenants_dir: Path
    state_dir: Path
    port: int | None
    """None where none was asked for: then that of the settings, or of what runs already."""
    json: bool

    @classmethod
    def of(cls, context: typer.Context) -> GlobalOptions:
        found: object = context.obj
        assert isinstance(found, cls)  # noqa: S101 - the callback in main.py always sets it
        return found

    def local_settings(self) -> LocalSettings:
        """Return the supervisor's settings. Raises ConfigurationError."""
        from assistant.settings import LocalSettings

        return LocalSettings.read(**({} if self.port is None else {"port": self.port}))

    def tenants(self) -> dict[str, TenantConfig]:
        """Return every tenant by name, with the models that it uses here. Raises ConfigurationError."""
        from assistant.settings import load_tenants

        tenants = load_tenants(self.tenants_dir)
        models = self.local_models(tenants)
        return {name: models[name].applied_to(tenant) for name, tenant in tenants.items()}

    def local_models(self, tenants: Iterable[str]) -> dict[str, TenantModels]:
        """Return the added models that each tenant uses here. Raises ConfigurationError."""
        from assistant.operations.layout import models_dir
        from assistant.settings import local_models

        return local_models(models_dir(self.state_dir), tenants)

    def tenant(self, name: str) -> TenantConfig:
        """Return one tenant. Raises ConfigurationError naming those that there are."""
        from assistant.domain.errors import ConfigurationError

        tenants = self.tenants()
        if name not in tenants:
            raise ConfigurationError(
                f"There is no tenant {name} in {self.tenants_dir}; there are {', '.join(tenants)}."
            )
        return tenants[name]


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
