"""The lock of container images, ``images.lock.toml``: which image by which digest."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from assistant.domain.errors import ConfigurationError

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class LockedImage(BaseModel):
    """One image. Without ``accounts`` it is our own, in the deployment account's registry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str
    tag: str
    digest: Digest | None = None
    """Absent: never built or resolved yet; the deployment then asks for it as a parameter."""
    accounts: Mapping[str, str] = {}
    """Region = account that publishes the image there."""


class ImageLock(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    images: Mapping[str, LockedImage]


def load_images(path: Path) -> ImageLock:
    """Read the lock. Raises ConfigurationError naming file and key."""
    try:
        return ImageLock.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
