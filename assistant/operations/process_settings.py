"""Settings classes read from the environment, their errors in one sentence."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from assistant.domain.errors import ConfigurationError

Settings = TypeVar("Settings", bound=BaseSettings)


def read_settings(kind: type[Settings], **given: Any) -> Settings:
    """Return the settings: what is given stands over the environment. Raises ConfigurationError."""
    prefix = kind.model_config.get("env_prefix", "")
    try:
        return kind(**given)
    except SettingsError as error:
        raise ConfigurationError(f"An environment variable {prefix}… cannot be read: {error}.") from None
    except ValidationError as error:
        said = [
            f"{prefix}{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
            for item in error.errors()
        ]
        raise ConfigurationError(f"The environment is not usable: {'; '.join(said)}.") from None
