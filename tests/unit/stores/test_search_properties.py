"""What holds of the search over any writes and any filters."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.domain.documents import IndexedDocument, Passage, PassageQuery, Retrieved, SearchFilters
from tests.contracts.samples import EAST, NOON, UP, between, card_of, indexed, passage, query
from tests.unit.stores.index_folder import IndexFolder

SOURCES = ("wiki", "help", "x")
LABELS = ("a", "b", "*")

fields_of_a_passage = st.fixed_dictionaries(
    {
        "source": st.sampled_from(SOURCES),
        "type": st.sampled_from(SOURCES),
        "labels": st.lists(st.sampled_from(LABELS), max_size=2, unique=True).map(tuple),
        "updated_at": st.integers(0, 3).map(lambda day: NOON + timedelta(days=day)),
    }
)
passages_of_a_document = st.lists(fields_of_a_passage, max_size=3)
writes = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.none() | passages_of_a_document), min_size=1, max_size=14
)
filters = st.builds(
    SearchFilters,
    source=st.lists(st.sampled_from(SOURCES), max_size=2).map(tuple),
    type=st.lists(st.sampled_from(SOURCES), max_size=2).map(tuple),
    document_id=st.lists(st.sampled_from("abc"), max_size=2).map(tuple),
    updated_after=st.none() | st.integers(-1, 3).map(lambda day: NOON + timedelta(days=day)),
)
agent_labels = st.frozensets(st.sampled_from(LABELS), max_size=2)


def is_allowed(entry: Passage, asked: PassageQuery) -> bool:
    """The filter's meaning, said a third time, by the words of the requirement."""
    wanted = asked.filters
    return (
        (not entry.labels or bool(asked.labels & set(entry.labels)))
        and (not wanted.source or entry.source in wanted.source)
        and (not wanted.type or entry.type in wanted.type)
        and (not wanted.document_id or entry.document_id in wanted.document_id)
        and (wanted.updated_after is None or entry.updated_at > wanted.updated_after)
    )


def without_passages(document_id: str) -> IndexedDocument:
    return IndexedDocument(card=card_of(passage(document_id)), title_vectors=[EAST], passages=())


def leg(found: Retrieved, rank: str) -> set[str]:
    return {one.passage.passage_id for one in found.passages if getattr(one, rank) is not None}


@settings(max_examples=25, deadline=None)
@given(writes=writes, filters=filters, labels=agent_labels)
def test_after_any_writes_both_legs_hold_just_what_the_filter_allows(
    writes: list[tuple[str, list[dict[str, Any]] | None]], filters: SearchFilters, labels: frozenset[str]
) -> None:
    asked = query("day", filters=filters, labels=sorted(labels), size=100)
    with tempfile.TemporaryDirectory() as folder:
        kept, incremental, fresh = asyncio.run(run(Path(folder), writes, asked))
    expected = {entry.passage_id for entry in kept if is_allowed(entry, asked)}
    assert leg(incremental, "lexical_rank") == expected
    assert leg(incremental, "vector_rank") == expected
    assert {hit.passage_id for hit in incremental.hits} == expected
    titled = {entry.document_id for entry in kept if entry.ordinal == 0 and is_allowed(entry, asked)}
    of_hits = {entry.document_id for entry in kept if entry.passage_id in expected}
    assert {hit.document_id for hit in incremental.documents} == titled | of_hits
    by_title = {hit.document_id for hit in incremental.documents if hit.title_cosine is not None}
    assert by_title == titled
    by_text = {hit.document_id for hit in incremental.documents if hit.text_score is not None}
    assert by_text == titled
    # A reader that followed each write finds just what one finds that opens the index now.
    assert incremental == fresh


async def run(
    folder: Path, writes: list[tuple[str, list[dict[str, Any]] | None]], asked: PassageQuery
) -> tuple[list[Passage], Retrieved, Retrieved]:
    follower = IndexFolder(folder)
    kept: dict[str, list[Passage]] = {}
    for document_id, entries in writes:
        if entries is None:
            await follower.index.delete_documents([document_id])
            kept.pop(document_id, None)
        else:
            kept[document_id] = [
                passage(document_id, ordinal, **fields) for ordinal, fields in enumerate(entries)
            ]
            share = (len(kept) % 5) / 5
            entries_of = [(entry, between(EAST, UP, share=share)) for entry in kept[document_id]]
            await follower.index.replace_documents(
                [indexed(*entries_of) if entries_of else without_passages(document_id)]
            )
        await follower.search(asked)
    await follower.index.optimize()
    incremental = await follower.search(asked)
    await follower.close()
    late = IndexFolder(folder)
    fresh = await late.search(asked)
    await late.close()
    return [entry for entries in kept.values() for entry in entries], incremental, fresh
