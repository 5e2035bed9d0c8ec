"""One version: that of ``pyproject.toml``. Deployed resources have it as their tag ``release``."""

from __future__ import annotations

import tomllib
from pathlib import Path

from assistant.tenant.manifests import load_images
from assistant.tenant.toml_file import RETIRED_KEYS
from stacks.tenant import release

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def test_the_tag_of_resources_and_the_tags_of_our_images_are_the_version() -> None:
    images = load_images(ROOT / "images.lock.toml").images.values()
    built = {image.tag for image in images if image.is_own and image.source is None}
    assert {release(), *built} == {VERSION}


def test_no_key_was_removed_in_a_later_version() -> None:
    removed = [text.removeprefix("in ").partition(":")[0] for text in RETIRED_KEYS.values()]
    assert max(map(numbers, removed)) <= numbers(VERSION)
