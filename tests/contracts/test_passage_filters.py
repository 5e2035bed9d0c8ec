"""What every PassageSearch leaves out, by filter and by access label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from assistant.domain.documents import Retrieved, SearchFilters
from tests.contracts.samples import EAST, NOON, NORTH, UP, between, passage, query
from tests.contracts.searching import found_ids, put, search
from tests.contracts.twins import Twin


def assert_documents(found: Retrieved, expected: set[str]) -> None:
    """Assert that the hits and each leg of documents hold just what is expected."""
    assert {hit.document_id for hit in found.hits} == expected
    assert {hit.document_id for hit in found.documents} == expected
    for score in ("title_cosine", "title_score", "text_score"):
        leg = {hit.document_id for hit in found.documents if getattr(hit, score) is not None}
        assert leg == expected, score


FILTERED = (
    passage("procedure", source="procedures", type="claims"),
    passage("wiki", source="wiki", type="claims"),
    passage("help", source="wiki", type="returns", updated_at=NOON + timedelta(days=1)),
)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (SearchFilters(), {"procedure", "wiki", "help"}),
        (SearchFilters(source=("wiki",)), {"wiki", "help"}),
        (SearchFilters(source=("wiki", "procedures")), {"procedure", "wiki", "help"}),
        (SearchFilters(type=("claims",)), {"procedure", "wiki"}),
        (SearchFilters(source=("wiki",), type=("claims",)), {"wiki"}),
        (SearchFilters(document_id=("help", "procedure")), {"help", "procedure"}),
        (SearchFilters(source=("nothing",)), set[str]()),
        (SearchFilters(source=("Wiki",)), set[str]()),
        (SearchFilters(updated_after=NOON), {"help"}),
        (SearchFilters(updated_after=NOON - timedelta(microseconds=1)), {"procedure", "wiki", "help"}),
        (SearchFilters(updated_after=NOON + timedelta(days=1)), set[str]()),
    ],
)
async def test_both_legs_obey_the_filters(twin: Twin, filters: SearchFilters, expected: set[str]) -> None:
    await put(twin, *((entry, EAST) for entry in FILTERED))
    found = await search(twin, query("procedure: wait until day", filters=filters))
    for rank in ("lexical_rank", "vector_rank"):
        leg = {one.passage.document_id for one in found.passages if getattr(one, rank) is not None}
        assert leg == expected, rank
    assert_documents(found, expected)


async def test_filters_come_before_the_best_are_chosen(twin: Twin) -> None:
    crowd = [(passage(f"crowd{number}", text="refill refill refill"), EAST) for number in range(30)]
    await put(
        twin, *crowd, (passage("wanted", text="refill later", source="wiki"), between(EAST, UP, share=0.5))
    )
    found = await search(twin, query("refill", filters=SearchFilters(source=("wiki",)), leg_size=3))
    assert [(one.passage.document_id, one.lexical_rank, one.vector_rank) for one in found.passages] == [
        ("wanted", 1, 1)
    ]
    assert found.best_cosine == pytest.approx(0.707107, abs=1e-5)


async def test_both_legs_leave_out_documents(twin: Twin) -> None:
    await put(twin, *((entry, EAST) for entry in FILTERED))
    asked = replace(query("procedure: wait until day"), without=frozenset({"wiki", "unknown"}))
    assert_documents(await search(twin, asked), {"procedure", "help"})


async def test_leaving_out_comes_before_the_best_are_chosen(twin: Twin) -> None:
    crowd = [(passage(f"crowd{number}", text="refill refill refill"), EAST) for number in range(30)]
    await put(twin, *crowd, (passage("wanted", text="refill later"), between(EAST, UP, share=0.5)))
    without = frozenset(entry.document_id for entry, _ in crowd)
    assert await found_ids(twin, replace(query("refill", leg_size=3), without=without)) == ["wanted"]


LABELLED = (
    passage("open"),
    passage("claims", labels=("claims",)),
    passage("both", labels=("claims", "controlled")),
    passage("odd", labels=("*",)),
)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((), {"open"}),
        (("claims",), {"open", "claims", "both"}),
        (("controlled",), {"open", "both"}),
        (("nothing", "claims"), {"open", "claims", "both"}),
        (("*",), {"open", "odd"}),
        (("",), {"open"}),
        (("claims,controlled",), {"open"}),
    ],
)
async def test_a_labelled_passage_is_seen_only_with_one_of_its_labels(
    twin: Twin, labels: Sequence[str], expected: set[str]
) -> None:
    await put(twin, *((entry, EAST) for entry in LABELLED))
    found = await search(twin, query("procedure: wait until day", labels=labels))
    for rank in ("lexical_rank", "vector_rank"):
        leg = {one.passage.document_id for one in found.passages if getattr(one, rank) is not None}
        assert leg == expected, rank
    assert_documents(found, expected)


async def test_a_filter_does_not_widen_what_labels_allow(twin: Twin) -> None:
    await put(twin, *((entry, EAST) for entry in LABELLED))
    assert await found_ids(twin, query(filters=SearchFilters(document_id=("claims",)))) == []


async def test_a_hidden_passage_does_not_raise_the_best_cosine(twin: Twin) -> None:
    await put(twin, (passage("hidden", labels=("claims",)), EAST), (passage("open"), NORTH))
    assert (await search(twin, query())).best_cosine == 0.0
