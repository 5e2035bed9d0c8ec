"""A router learned from labelled questions, and its release."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from assistant.answer.adaptations import read_released_router
from assistant.domain.desk import DeskItem, DeskKind, ReleaseState, RouterRelease
from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.evaluation.routing import (
    LabelledQuestion,
    Release,
    RoutedQuestion,
    RouterReleases,
    learn_routing,
)
from assistant.tenant.tenant import SourceEntry, TenantConfig
from tests.stage.tenant_stores import SteppedClock

SOURCES = (
    SourceEntry(name="catalogue", kind="catalogue", access="everyone"),
    SourceEntry(name="chatter", kind="community", access="everyone"),
)
TENANT = TenantConfig.model_validate(
    {
        "schema_version": 1,
        "name": "shop",
        "display_name": "Shop",
        "sources": [source.model_dump() for source in SOURCES],
        "embedding": {"dimensions": 2},
    }
)
SAYS = ("grams of the {}", "folks on the {}")
"""No word of a kind is among them, so that keywords know nothing."""


def labelled(count: int = 40, *, wrong: bool = False) -> list[RoutedQuestion]:
    """Return questions of which every second one is of the second source."""
    return [
        RoutedQuestion(
            id=f"q{at}",
            question="thing" if wrong else SAYS[at % 2].format(f"item{at // 2}"),
            kind="fact",
            sources=("catalogue", "chatter") if at % 2 == 0 else ("chatter",),
            items=(f"item{at}",),
        )
        for at in range(count)
    ]


def with_vectors(questions: Sequence[RoutedQuestion]) -> list[LabelledQuestion]:
    return [LabelledQuestion(one.question, (0.6, 0.8), one.sources, one.group) for one in questions]


class Desk:
    """Keeps the newest revision of each item."""

    def __init__(self) -> None:
        self.items: dict[str, DeskItem] = {}

    async def list(self, kind: DeskKind) -> list[DeskItem]:
        assert kind is DeskKind.ROUTER_RELEASE
        return list(self.items.values())

    async def put(self, item: DeskItem) -> None:
        known = self.items.get(item.item_id)
        assert item.revision == (1 if known is None else known.revision + 1)
        self.items[item.item_id] = item

    def states(self) -> dict[str, ReleaseState]:
        return {name: _content(item).state for name, item in self.items.items()}


def _content(item: DeskItem) -> RouterRelease:
    return RouterRelease.model_validate_json(item.body)


def releases(desk: Desk) -> RouterReleases:
    return RouterReleases(desk, clock=SteppedClock())  # pyright: ignore[reportArgumentType]


async def learned(
    desk: Desk, questions: Sequence[RoutedQuestion], *, tenant: TenantConfig = TENANT
) -> Release:
    labels = with_vectors(questions)
    return await learn_routing(tenant, labels, releases(desk), questions_sha256="0" * 64)


async def test_a_router_that_beats_keywords_is_live_and_may_serve() -> None:
    desk = Desk()
    first = await learned(desk, labelled())
    assert first.content.state is ReleaseState.LIVE
    assert read_released_router(desk.items.values(), tenant=TENANT) is not None


async def test_a_second_release_replaces_the_first_and_can_be_taken_back() -> None:
    desk = Desk()
    await learned(desk, labelled())
    await learned(desk, labelled(60))
    assert list(desk.states().values()) == [ReleaseState.REPLACED, ReleaseState.LIVE]
    taken, serves = await releases(desk).roll_back()
    assert (taken.name, serves.name if serves else None) == ("router-000002", "router-000001")
    assert list(desk.states().values()) == [ReleaseState.LIVE, ReleaseState.ROLLED_BACK]
    assert (await releases(desk).roll_back())[1] is None
    with pytest.raises(NotFoundError):
        await releases(desk).roll_back()


async def test_a_router_that_knows_no_more_than_keywords_is_refused() -> None:
    desk = Desk()
    refused = await learned(desk, labelled(wrong=True))
    assert refused.content.state is ReleaseState.REFUSED
    assert "refused: it does not route better" in refused.item.note
    assert read_released_router(desk.items.values(), tenant=TENANT) is None


async def test_questions_that_cannot_be_learned_from_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="too few"):
        await learned(Desk(), labelled(10))
    unknown = RoutedQuestion(id="x", question="?", kind="fact", sources=("nowhere",))
    with pytest.raises(ConfigurationError, match="nowhere"):
        await learned(Desk(), [*labelled(), unknown])
    alone = TENANT.model_copy(update={"sources": SOURCES[:1]})
    with pytest.raises(ConfigurationError, match="one source"):
        await learned(Desk(), labelled(), tenant=alone)
