"""The lock of images: whose registry has what, and writing a digest into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.tenant.manifests import load_images, write_digest

LOCK = """\
# Kept.
[images.ours]
repository = "a/ours"  # kept, too
tag = "0.1.0"

[images.theirs]
repository = "theirs"
tag = "1.2"
registry = "aws"
regions = ["us-east-1"]

[registries.aws]
us-east-1 = "763104351884"
us-west-2 = "763104351884"
"""
DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "images.lock.toml"
    path.write_text(LOCK)
    return path


def test_the_committed_lock_has_every_image_that_a_manifest_names() -> None:
    root = Path(__file__).parents[3]
    images = load_images(root / "images.lock.toml")

    for manifest in root.glob("model_artifacts/*/*/manifest.toml"):
        name = next(line for line in manifest.read_text().splitlines() if line.startswith("image ="))
        assert name.split('"')[1] in images.images


def test_an_own_image_is_of_the_deployment_s_account(lock: Path) -> None:
    assert load_images(lock).account("ours", region="eu-central-1", own="111122223333") == "111122223333"


def test_an_image_of_aws_is_of_its_registry_s_account_in_its_regions_alone(lock: Path) -> None:
    images = load_images(lock)

    assert images.account("theirs", region="us-east-1", own="1") == "763104351884"
    with pytest.raises(
        ConfigurationError, match=r"theirs \(theirs\) is not published in us-west-2; .*: us-east-1"
    ):
        images.account("theirs", region="us-west-2", own="1")


def test_a_digest_is_written_and_nothing_else_changes(lock: Path) -> None:
    write_digest(lock, name="ours", digest=DIGEST)

    assert load_images(lock).image("ours").digest == DIGEST
    assert lock.read_text().replace(f'digest = "{DIGEST}"\n', "") == LOCK


@pytest.mark.parametrize(("name", "digest"), [("ours", "sha256:short"), ("nobody", DIGEST)])
def test_what_is_no_digest_or_no_image_leaves_the_lock_as_it_was(lock: Path, name: str, digest: str) -> None:
    with pytest.raises(ConfigurationError):
        write_digest(lock, name=name, digest=digest)
    assert lock.read_text() == LOCK
    assert list(lock.parent.iterdir()) == [lock]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('tag = "latest"', r"line 4: images\.ours\.tag: .*not a fixed version"),
        ('tag = "0.1.0"\ndigest = "sha256:1"', r"line 5: images\.ours\.digest"),
        ('tag = "0.1.0"\ncolour = 1', r"line 5: unknown key images\.ours\.colour"),
    ],
)
def test_a_lock_that_pins_nothing_is_refused_by_line(lock: Path, line: str, said: str) -> None:
    lock.write_text(LOCK.replace('tag = "0.1.0"', line))

    with pytest.raises(ConfigurationError, match=said):
        load_images(lock)
