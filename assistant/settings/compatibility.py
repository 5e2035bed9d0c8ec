"""Which image, compiler, driver and machine image are known together, ``model_artifacts/compatibility.toml``.

They change together: an artifact that one image compiled does not load in another, and an image needs the
driver that its machine image brings. A combination that is no row is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from assistant.domain.errors import ConfigurationError
from assistant.settings.artifacts import EmbeddingManifest, LlmManifest
from assistant.settings.deployment_sections import Accelerator
from assistant.settings.images import ImageLock
from assistant.settings.strict_file import read_strict


class CompatibleRow(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    """Name in images.lock.toml."""
    tag: str
    accelerators: tuple[Accelerator, ...] = Field(min_length=1)
    sdk: str | None = None
    """Of Neuron or CUDA, in the image; it compiles and it runs."""
    ami: str | None = None
    """``InferenceAmiVersion``; the service's own choice when absent."""
    driver: str | None = None
    """In the machine image."""
    source: str
    warning: str | None = None
    """What nobody has shown yet about them together; ``assistant doctor`` says it."""


class CompatibilityTable(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    row: tuple[CompatibleRow, ...]

    def row_of(self, manifest: LlmManifest | EmbeddingManifest, *, images: ImageLock) -> CompatibleRow:
        """Return the row of an artifact. Raises ConfigurationError with the rows of its image."""
        wanted = (manifest.image, images.image(manifest.image).tag, manifest.sdk, manifest.ami)
        same_image = [row for row in self.row if row.image == manifest.image]
        for row in same_image:
            if (row.image, row.tag, row.sdk, row.ami) == wanted and manifest.accelerator in row.accelerators:
                return row
        known = "; ".join(_said(r.image, r.tag, r.sdk, r.ami, r.accelerators) for r in same_image)
        raise ConfigurationError(
            f"{manifest.name}: {_said(*wanted, (manifest.accelerator,))} are not known together. "
            f"Known: {known or 'none'}. Image, SDK and AMI change together, with the artifact compiled again."
        )

    def check(self, manifest: LlmManifest | EmbeddingManifest, *, images: ImageLock) -> None:
        """Raises ConfigurationError for an unknown combination, or an artifact of another image."""
        self.row_of(manifest, images=images)
        locked = images.image(manifest.image).digest
        if manifest.image_digest and locked and manifest.image_digest != locked:
            raise ConfigurationError(
                f"{manifest.name} was compiled by {manifest.image_digest}, and images.lock.toml has "
                f"{locked} for {manifest.image}. Compile it again with that image, or lock the other."
            )


def load_compatibility(path: Path) -> CompatibilityTable:
    """Raises ConfigurationError naming file, line and key."""
    return read_strict(path, CompatibilityTable)


def _said(image: str, tag: str, sdk: str | None, ami: str | None, accelerators: Sequence[Accelerator]) -> str:
    return f"{image} {tag} with {sdk or 'no SDK'} on {ami or 'any AMI'} for {', '.join(accelerators)}"
