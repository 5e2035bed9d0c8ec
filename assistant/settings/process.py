"""What the settings of every process have in common: read whole, from the environment, or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, Self, cast

from pydantic import ModelWrapValidatorHandler, TypeAdapter, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from assistant.domain.errors import ConfigurationError


class ProcessSettings(BaseSettings):
    """Settings of one process. Making them raises one ConfigurationError that names every wrong variable."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    @classmethod
    def read(cls, **given: Any) -> Self:
        """Return the settings that the environment holds; what is given stands over it.

        Raises ConfigurationError naming variables.
        """
        try:
            return cls(**given)
        except SettingsError as error:
            raise ConfigurationError(
                f"An environment variable {cls.variable('')}… cannot be read: {error}."
            ) from None

    @classmethod
    def variable(cls, name: str) -> str:
        """Return the environment variable of a field."""
        return f"{cls.model_config.get('env_prefix', '')}{name}".upper()

    @classmethod
    def variables(
        cls, given: Mapping[str, Any], *, known_later: AbstractSet[str] = frozenset()
    ) -> dict[str, str]:
        """Return the variables by which a process reads what is ``given`` by field.

        Values of fields in ``known_later`` are references that only the deployment resolves: they pass as
        they are. All others are validated as the process will, and a needed one that is missing is an error.
        Raises ConfigurationError naming every wrong variable.
        """
        unknown = [name for name in given if name not in cls.model_fields]
        missing = [
            name for name, field in cls.model_fields.items() if field.is_required() and name not in given
        ]
        wrong = [f"{cls.__name__} has no field {name}" for name in unknown]
        wrong += [f"{cls.variable(name)} is needed" for name in missing]
        wrong += cls.wrong_together(given)
        values: dict[str, str] = {}
        for name in given.keys() - set(unknown):
            try:
                values[cls.variable(name)] = _written(cls, name, given[name], known_later=name in known_later)
            except ValidationError as error:
                wrong += [f"{cls.variable(name)}: {item['msg']}" for item in error.errors()]
        if wrong:
            raise ConfigurationError(f"The environment of a process is not usable: {'; '.join(wrong)}.")
        return dict(sorted(values.items()))

    @classmethod
    def wrong_together(cls, given: Mapping[str, Any]) -> Sequence[str]:
        """Return what is wrong with the given values together, a sentence each; none is validated yet."""
        del given
        return ()

    @model_validator(mode="wrap")
    @classmethod
    def _all_or_nothing(cls, given: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        wrong = list(cls.wrong_together(cast("Mapping[str, Any]", given)))
        try:
            settings = validate(given)
        except ValidationError as error:
            single = [
                f"{cls.variable('.'.join(str(part) for part in item['loc']))}: {item['msg']}"
                for item in error.errors()
            ]
            wrong = [*single, *wrong]
        else:
            if not wrong:
                return settings
        raise ConfigurationError(f"The environment is not usable: {'; '.join(wrong)}.")

    def environment(self) -> dict[str, str]:
        """Return the variables that make these very settings in another process; absent ones are left out."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {
            self.variable(name): value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
        }


def _written(cls: type[ProcessSettings], name: str, value: Any, *, known_later: bool) -> str:
    if known_later:
        return str(value)
    field = cls.model_fields[name]
    checked: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[valid-type]
    written = checked.dump_python(checked.validate_python(value), mode="json")
    return written if isinstance(written, str) else json.dumps(written)


def inherited_environment() -> dict[str, str]:
    """Return what a process started from this one inherits: everything but our own settings.

    Those are passed on by their classes (``environment``), so that one variable never reaches two
    processes that read the same class.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("ASSISTANT_")}
