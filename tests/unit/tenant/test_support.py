"""Every part of what ships has source and end; one that ended is refused unless a file accepts the day."""

from __future__ import annotations

import os
import tomllib
from datetime import date, timedelta
from pathlib import Path

import pytest

from assistant.cli.aws.doctor import support
from assistant.tenant.manifests import (
    CompatibilityTable,
    EmbeddingManifest,
    LlmManifest,
    Part,
    load_compatibility,
    load_images,
)

ROOT = Path(__file__).parents[3]
FILE = ROOT / "model_artifacts" / "compatibility.toml"
TABLE = load_compatibility(FILE)
TODAY = date(2026, 11, 30)
MOST_DAYS = 90
"""Since a part's source was read."""


def stale(table: CompatibilityTable, *, today: date) -> list[str]:
    return [part.name for part in table.part if (today - part.read).days > MOST_DAYS]


@pytest.mark.parametrize("name", load_images(ROOT / "images.lock.toml").images)
def test_an_image_of_the_lock_is_a_part_with_its_tag(name: str) -> None:
    image = load_images(ROOT / "images.lock.toml").image(name)

    parts = TABLE.used(f"/{image.repository}@sha256:0")
    assert parts
    assert (image.is_own and not image.source) or {image.tag} == {tag for part in parts for tag in part.tags}


def test_the_ends_of_inferentia_s_parts_are_those_that_their_sources_name() -> None:
    ami, image = (
        TABLE.used("al2-ami-sagemaker-inference-neuron-2"),
        TABLE.used("/huggingface-vllm-inference-neuronx"),
    )
    assert {part.end for part in ami} == {date(2026, 6, 30), "not announced"}
    assert {part.end for part in image} == {"not announced"}


CANDIDATES = tomllib.loads((ROOT / "jumpstart.lock.toml").read_text())["candidate"]
SERVERS = [candidate["published"]["image"] for candidate in CANDIDATES]
PRICED = tomllib.loads((ROOT / "assistant/options/bedrock/models.toml").read_text())["price"]
KINDS = (("llm", LlmManifest), ("embedding", EmbeddingManifest))
SHIPPED = {
    "servers of JumpStart": SERVERS,
    "AMIs of manifests": [
        ami
        for folder, kind in KINDS
        for path in (ROOT / "model_artifacts" / folder).glob("*/manifest.toml")
        if (ami := kind.read(path.parent).ami) is not None
    ],
    "base images": [lock.read_text().splitlines()[-1] for lock in ROOT.glob("containers/**/base-image.lock")],
    "versions of the search engine": [
        f"OpenSearch_{each}" for each in ("2.19", *(f"3.{n}" for n in range(10)))
    ],
    "models of Bedrock with a price": [f"foundation-model/{row['model']}" for row in PRICED],
}


@pytest.mark.parametrize("what", SHIPPED)
def test_what_ships_or_may_be_named_is_a_part(what: str) -> None:
    assert SHIPPED[what]
    assert [each for each in SHIPPED[what] if not TABLE.used(each)] == []


def test_the_server_of_jumpstart_whose_support_ended_says_so() -> None:
    ended = [image for image in SERVERS if "tgi" in image]
    assert {TABLE.until(image) for image in ended} == {"2026-03-21 (Text Generation Inference, of JumpStart)"}


@pytest.mark.parametrize("part", TABLE.part, ids=lambda part: part.name)
def test_a_part_whose_support_ended_yesterday_is_refused_unless_the_day_is_accepted(part: Part) -> None:
    yesterday = TODAY - timedelta(days=1)
    ended = part.model_copy(update={"end": yesterday})
    table = TABLE.model_copy(update={"part": (ended,)})

    def kinds(text: str, *, accepted: date | None = None) -> list[str]:
        parts = table.ending(text, today=TODAY)
        return [finding.kind for finding in support(parts, today=TODAY, accepted=accepted)]

    for mark in part.marks:
        text = f'{{"Value": "{mark}"}}'
        assert kinds(text) == ["fail"]
        assert kinds(text, accepted=yesterday - timedelta(days=1)) == ["fail"]
        assert kinds(text, accepted=yesterday) == ["warn"]
    assert kinds("{}") == []


@pytest.mark.parametrize(("days", "kinds"), [(181, []), (180, ["warn"]), (0, ["warn"]), (-1, ["fail"])])
def test_an_end_is_warned_of_before_and_its_own_day_is_supported(days: int, kinds: list[str]) -> None:
    ends = TABLE.part[0].model_copy(update={"end": TODAY + timedelta(days=days)})
    table = TABLE.model_copy(update={"part": (ends,)})

    parts = table.ending(ends.marks[0], today=TODAY)
    assert [finding.kind for finding in support(parts, today=TODAY, accepted=None)] == kinds


def test_a_source_is_too_old_after_90_days() -> None:
    newest = max(part.read for part in TABLE.part)

    assert stale(TABLE, today=newest + timedelta(days=MOST_DAYS + 1)) == [part.name for part in TABLE.part]


def test_no_source_is_too_old_by_night() -> None:
    """At the last reading on each change; today by night (``make check-night ARGS=check-support``)."""
    newest = max(part.read for part in TABLE.part)

    assert stale(TABLE, today=date.fromisoformat(os.environ.get("SUPPORT_DAY", str(newest)))) == []
