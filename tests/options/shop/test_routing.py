"""How much each source matters, and what that does to scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from math import log
from typing import Any

import orjson
import pytest

from assistant.answer.adaptations import read_released_router
from assistant.answer.route import (
    AGE_STRENGTH,
    STRENGTH,
    Router,
    SourceScores,
    read_router,
    route,
    spread_out,
)
from assistant.answer.scores import RankedDocument
from assistant.domain.desk import DeskItem, DeskKind, ReleaseState, RouterRelease
from assistant.domain.errors import ConfigurationError
from assistant.tenant.tenant import SourceEntry, TenantConfig
from tests.contracts.samples import card_of, passage

CATALOGUE = SourceEntry(name="catalogue", kind="catalogue", access="everyone")
REVIEWS = SourceEntry(name="reviews", kind="reviews", freshness_days=100, access="everyone")
SOURCES = (CATALOGUE, REVIEWS)
ROUTER: dict[str, Any] = {
    "sources": ["catalogue", "reviews"],
    "embedding_model": "all-MiniLM-L6-v2",
    "bias": [0.0, 0.0],
    "vector": [[1.0, 0.0], [0.0, 1.0]],
    "words": {"loud": [0.0, 2.0], "#number": [1.0, 0.0]},
    "fitted_on": "a test",
}
TODAY = date(2026, 11, 21)


def router(**changes: object) -> Router:
    return read_router(orjson.dumps(ROUTER | changes))


def test_the_shares_add_up_to_one_and_follow_the_weights_of_the_tenant_file() -> None:
    even = route("?", [0.0, 0.0], sources=SOURCES, router=router())
    assert even.shares == pytest.approx({"catalogue": 0.5, "reviews": 0.5})
    heavy = (CATALOGUE, REVIEWS.model_copy(update={"weight": 3.0}))
    assert route("?", [0.0, 0.0], sources=heavy, router=router()).shares["reviews"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    "changes",
    [
        {"bias": [0.0]},
        {"vector": [[1.0, 0.0]]},
        {"vector": [[1.0, 0.0], [0.0]]},
        {"words": {"loud": [1.0, 2.0, 3.0]}},
        {"kind": "ranker"},
        {"bias": [0.0, "NaN"]},
    ],
)
def test_a_router_that_does_not_fit_itself_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        router(**changes)


def scores(shares: dict[str, float], *, sources: Sequence[SourceEntry] = SOURCES) -> SourceScores:
    made = route("?", [0.0, 0.0], sources=SOURCES, router=router())
    return SourceScores(type(made)(shares), sources=sources, today=TODAY)


def test_a_document_gets_the_logarithm_of_its_source_s_share() -> None:
    added = scores({"catalogue": 0.9, "reviews": 0.1})
    assert added.of("catalogue:kettle") == pytest.approx(STRENGTH * log(0.9))
    assert added.of("reviews:r1") == pytest.approx(STRENGTH * log(0.1))


@pytest.mark.parametrize(
    ("written", "halves"), [(TODAY, 0.0), (date(2026, 8, 13), 1.0), (date(2020, 1, 1), 3.0)]
)
def test_an_old_document_of_a_source_with_a_half_life_loses(written: date, halves: float) -> None:
    card = replace(card_of(passage("reviews:r1")), effective_date=written)
    aged = scores({"catalogue": 0.5, "reviews": 0.5}).of_age(card)
    assert aged == pytest.approx(AGE_STRENGTH * halves * log(0.5))
    assert scores({"catalogue": 0.5, "reviews": 0.5}).of_age(card_of(passage("catalogue:k"))) == 0.0


def ranked(*names: str) -> list[RankedDocument]:
    return [RankedDocument(name, -float(at), {}) for at, name in enumerate(names)]


def test_one_source_takes_no_more_than_its_part_while_others_have_documents() -> None:
    loud = ranked("a:1", "a:2", "a:3", "b:1", "b:2")
    assert spread_out(loud, count=4, most=2) == ["a:1", "a:2", "b:1", "b:2"]
    assert spread_out(ranked("a:1", "a:2", "a:3"), count=3, most=2) == ["a:1", "a:2", "a:3"]


TENANT = TenantConfig.model_validate(
    {
        "schema_version": 1,
        "name": "shop",
        "display_name": "Shop",
        "sources": [{"name": name, "access": "everyone"} for name in ("catalogue", "reviews")],
        "embedding": {"dimensions": 2},
    }
)


def release(state: ReleaseState, *, content: dict[str, Any] = ROUTER, **changes: object) -> DeskItem:
    raw = orjson.dumps(content)
    body = RouterRelease(
        artifact_hash=read_router(raw).sha256,
        router_json=raw.decode(),
        state=state,
        questions=10,
        questions_sha256="0" * 64,
        seed=0,
        report="{}",
    ).model_copy(update=changes)
    return DeskItem(
        kind=DeskKind.ROUTER_RELEASE,
        item_id="router-000001",
        revision=1,
        at=datetime(2026, 11, 21, tzinfo=UTC),
        by="learner",
        body=body.model_dump_json(),
    )


@pytest.mark.parametrize(
    "broken",
    [
        release(ReleaseState.LIVE, artifact_hash="0" * 64),
        release(ReleaseState.LIVE, content=ROUTER | {"embedding_model": "another"}),
        release(ReleaseState.LIVE, content=ROUTER | {"sources": ["catalogue", "help"]}),
        release(ReleaseState.LIVE, content=ROUTER | {"vector": [[1.0], [1.0]]}),
        release(ReleaseState.LIVE).model_copy(update={"body": "{}"}),
    ],
)
def test_a_router_that_does_not_fit_the_tenant_does_not_serve(broken: DeskItem) -> None:
    assert read_released_router([broken], tenant=TENANT) is None


def test_the_live_router_serves() -> None:
    items = [release(ReleaseState.REPLACED), release(ReleaseState.REFUSED), release(ReleaseState.LIVE)]
    assert read_released_router(items, tenant=TENANT) is not None
    assert read_released_router(items[:2], tenant=TENANT) is None
