"""What the states of documents do over each table."""

from __future__ import annotations

from datetime import timedelta

import pytest

from assistant.documents import readable as reading
from assistant.documents.sources import KnowledgeSource, KnowledgeSources
from assistant.domain.documents import DocumentState
from assistant.tenant.tenant import default_source
from tests.contracts import samples
from tests.contracts.conftest import OtherProcess
from tests.contracts.twins import Twin


async def test_a_status_comes_back_whole(twin: Twin) -> None:
    written = samples.status(state=DocumentState.FAILED).model_copy(
        update={"failure_code": "document_invalid", "failure_reason": "line 3", "passage_count": 7}
    )
    await twin.states.put_many([written])
    assert await twin.states.get("refill") == written


async def test_an_unknown_status_is_none(twin: Twin) -> None:
    assert await twin.states.get("nothing") is None


async def test_many_statuses_come_by_id_and_unknown_ids_are_left_out(twin: Twin) -> None:
    await twin.states.put_many([samples.status("a"), samples.status("b"), samples.status("c")])
    found = await twin.states.get_many(["c", "a", "nothing"])
    assert {document_id: status.document_id for document_id, status in found.items()} == {"a": "a", "c": "c"}


async def test_a_document_has_one_status(twin: Twin) -> None:
    await twin.states.put_many([samples.status()])
    await twin.states.put_many([samples.status(state=DocumentState.LIVE)])
    assert await twin.states.count_by_state() == {DocumentState.LIVE: 1}


async def test_pages_come_in_order_of_ids(twin: Twin) -> None:
    await twin.states.put_many([samples.status(name) for name in "dbeac"])
    first = await twin.states.list(limit=2)
    second = await twin.states.list(after=first[-1].document_id, limit=2)
    last = await twin.states.list(after=second[-1].document_id, limit=2)
    assert [[status.document_id for status in page] for page in (first, second, last)] == [
        ["a", "b"],
        ["c", "d"],
        ["e"],
    ]


async def test_a_list_ends_at_an_id_that_it_holds(twin: Twin) -> None:
    await twin.states.put_many([samples.status(name) for name in ("a", "b:", "b:x", "b:y", "c")])
    found = await twin.states.list(after="b:", until="b:y")
    assert [status.document_id for status in found] == ["b:x", "b:y"]
    of_state = await twin.states.list(states=[samples.status().state], after="a", until="b:x")
    assert [status.document_id for status in of_state] == ["b:", "b:x"]


async def test_documents_between_two_ids_are_counted(twin: Twin) -> None:
    await twin.states.put_many([samples.status(name) for name in ("a", "b:x", "b:y", "c")])
    state = samples.status().state
    assert await twin.states.count_by_state(after="b:", until="b:y") == {state: 2}
    assert await twin.states.count_by_state(until="a") == {state: 1}
    assert await twin.states.count_by_state(after="b:y") == {state: 1}


async def test_a_list_holds_the_asked_states_only(twin: Twin) -> None:
    await twin.states.put_many(
        [
            samples.status("a", state=DocumentState.LIVE),
            samples.status("b", state=DocumentState.FAILED),
            samples.status("c", state=DocumentState.STALE),
        ]
    )
    found = await twin.states.list(states=[DocumentState.FAILED, DocumentState.STALE])
    assert [status.document_id for status in found] == ["b", "c"]


async def test_an_advance_moves_what_is_as_it_was(twin: Twin) -> None:
    await twin.states.put_many([samples.status()])
    moved = samples.status(state=DocumentState.LIVE)
    assert await twin.states.advance_many([moved]) == {"refill"}
    assert await twin.states.get("refill") == moved


async def test_an_advance_leaves_what_was_received_anew(twin: Twin) -> None:
    newer = samples.status(received_at=samples.NOON + timedelta(seconds=1))
    await twin.states.put_many([newer])
    assert await twin.states.advance_many([samples.status(state=DocumentState.LIVE)]) == frozenset()
    assert await twin.states.get("refill") == newer


async def test_an_advance_leaves_other_content(twin: Twin) -> None:
    newer = samples.status(content_hash="hash-2")
    await twin.states.put_many([newer])
    assert await twin.states.advance_many([samples.status(state=DocumentState.LIVE)]) == frozenset()
    assert await twin.states.get("refill") == newer


async def test_an_advance_does_not_bring_back_what_was_withdrawn(twin: Twin) -> None:
    withdrawn = samples.status(state=DocumentState.WITHDRAWN)
    await twin.states.put_many([withdrawn])
    assert await twin.states.advance_many([samples.status(state=DocumentState.LIVE)]) == frozenset()
    assert await twin.states.get("refill") == withdrawn


async def test_an_advance_may_complete_a_withdrawal(twin: Twin) -> None:
    withdrawn = samples.status(state=DocumentState.WITHDRAWN)
    await twin.states.put_many([withdrawn.model_copy(update={"live_content_hash": "hash-1"})])
    assert await twin.states.advance_many([withdrawn]) == {"refill"}
    assert await twin.states.get("refill") == withdrawn


async def test_an_advance_of_an_unknown_document_writes_nothing(twin: Twin) -> None:
    assert await twin.states.advance_many([samples.status()]) == frozenset()
    assert await twin.states.get("refill") is None


async def test_another_process_s_advance_is_seen(twin: Twin, elsewhere: OtherProcess) -> None:
    await twin.states.put_many([samples.status()])
    assert await elsewhere("mark_live") == ["refill"]
    assert await twin.states.count_by_state() == {DocumentState.LIVE: 1}


async def test_states_of_another_tenant_are_unknown(twin: Twin, stranger: Twin) -> None:
    await twin.states.put_many([samples.status()])
    assert await stranger.states.get("refill") is None
    assert await stranger.states.list() == []


async def test_a_search_goes_on_where_the_one_before_ended(
    twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAGE", 2)
    monkeypatch.setattr(reading, "MOST_SEARCHED", 4)
    rows = [samples.status(name) for name in ("a", "b", "c", "d", "fee-1", "fee-2", "fee-3")]
    rows[1] = rows[1].model_copy(update={"title": "The FEE of 2026"})
    await twin.states.put_many(rows)
    sources = KnowledgeSources((KnowledgeSource(default_source(), ()),))
    listing, found, after = reading.ListDocuments(twin.states, sources=sources), list[list[str]](), None
    while after is not None or not found:
        page, after = await listing.page(sources.all, find="fee", after=after, limit=2)
        found.append([status.document_id for status in page])
    assert found == [["b"], ["fee-1", "fee-2"], ["fee-3"]]
