"""The lock of container images, ``images.lock.toml``: repository, tag, digest and registry of each image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from assistant.domain.errors import ConfigurationError
from assistant.settings.toml_file import StrictModel, read_strict

DIGEST_PATTERN = "^sha256:[0-9a-f]{64}$"
Digest = Annotated[str, StringConstraints(pattern=DIGEST_PATTERN)]
_Account = Annotated[str, StringConstraints(pattern=r"^\d{12}$")]
_Registry = Annotated[Mapping[str, _Account], Field(min_length=1)]


def _is_fixed(tag: str) -> str:
    if tag == "latest":
        raise ValueError('"latest" is not a fixed version; name one')
    return tag


_Tag = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"), AfterValidator(_is_fixed)
]


class LockedImage(StrictModel):
    """One image. Without ``registry`` it is our own, in the registry of the deployment account."""

    repository: str = Field(pattern=r"^[a-z0-9]+(?:[._/-][a-z0-9]+)*$")
    tag: _Tag
    digest: Digest | None = None
    """Absent before the image is built or resolved. For our own image the deployment then has a parameter;
    with profile ``hipaa`` every image needs a digest."""
    registry: str | None = None
    """Table under ``[registries]`` with the account that publishes the image in each region."""
    regions: tuple[str, ...] = ()
    """Regions that have the image; all of its registry's when empty."""
    source: str | None = None
    """Image of which our own is an unchanged copy; built from ``containers/<name>`` when absent."""

    @property
    def is_own(self) -> bool:
        """Whether the deployment account's registry holds it."""
        return self.registry is None


class ImageLock(StrictModel):
    registries: Mapping[str, _Registry] = {}
    """Registry = region = publishing account."""
    images: Mapping[str, LockedImage]

    def image(self, name: str) -> LockedImage:
        """Return one image. Raises ConfigurationError with the known names."""
        try:
            return self.images[name]
        except KeyError:
            known = ", ".join(sorted(self.images))
            raise ConfigurationError(f'images.lock.toml: no image "{name}"; it has {known}.') from None

    def accounts(self, name: str) -> Mapping[str, str]:
        """Return region = publishing account of an image; empty for our own."""
        image = self.image(name)
        if image.registry is None:
            return {}
        try:
            table = self.registries[image.registry]
        except KeyError:
            raise ConfigurationError(
                f'images.lock.toml: images.{name}.registry = "{image.registry}" is not under [registries].'
            ) from None
        return {region: table[region] for region in image.regions or table if region in table}

    def account(self, name: str, *, region: str, own: str) -> str:
        """Return the account whose registry has an image in ``region``; ``own`` is the deployment account.

        Raises ConfigurationError with the regions that have it.
        """
        if self.image(name).is_own:
            return own
        accounts = self.accounts(name)
        if region not in accounts:
            raise ConfigurationError(
                f"The image {name} ({self.image(name).repository}) is not published in {region}; "
                f"regions that have it: {', '.join(sorted(accounts))}."
            )
        return accounts[region]

    def own(self) -> Mapping[str, LockedImage]:
        """Return our own images by name."""
        return {name: image for name, image in self.images.items() if image.is_own}


def load_images(path: Path) -> ImageLock:
    """Read the lock. Raises ConfigurationError naming file, line and key."""
    return read_strict(path, ImageLock)


def write_digest(path: Path, *, name: str, digest: str, tag: str | None = None) -> None:
    """Write an image's digest (and tag) into the lock; comments and the rest of the file stay.

    Raises ConfigurationError for an unknown image or an invalid digest.
    """
    import tomlkit  # not in the service's image, which never reads the lock

    load_images(path).image(name)
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    entry = document["images"][name]  # type: ignore[index]
    entry["digest"] = digest  # type: ignore[index]
    if tag is not None:
        entry["tag"] = tag  # type: ignore[index]
    written = path.with_name(f".{path.name}.new")
    written.write_text(tomlkit.dumps(document), encoding="utf-8")
    try:
        load_images(written)
    except ConfigurationError as error:
        written.unlink()
        raise ConfigurationError(f"{path} was not changed: {error.message}") from None
    written.replace(path)
