"""What the settings of every process have in common: read whole, from the environment, or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

from pydantic import ModelWrapValidatorHandler, ValidationError, model_validator
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


def inherited_environment() -> dict[str, str]:
    """Return what a process started from this one inherits: everything but our own settings.

    Those are passed on by their classes (``environment``), so that one variable never reaches two
    processes that read the same class.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("ASSISTANT_")}
