"""What the states of documents do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from assistant.documents import readable as reading
from assistant.documents.sources import KnowledgeSource, KnowledgeSources
from assistant.domain.documents import DocumentState
from assistant.tenant.tenant import default_source
from tests.contracts import samples
from tests.stage.tenant_stores import TenantStores


async def test_many_statuses_come_by_id_and_unknown_ids_are_left_out(stores: TenantStores) -> None:
    await stores.states.put_many([samples.status("a"), samples.status("b"), samples.status("c")])
    found = await stores.states.get_many(["c", "a", "nothing"])
    assert {document_id: status.document_id for document_id, status in found.items()} == {"a": "a", "c": "c"}


async def test_pages_come_in_order_of_ids(stores: TenantStores) -> None:
    await stores.states.put_many([samples.status(name) for name in "dbeac"])
    first = await stores.states.list(limit=2)
    second = await stores.states.list(after=first[-1].document_id, limit=2)
    last = await stores.states.list(after=second[-1].document_id, limit=2)
    assert [[status.document_id for status in page] for page in (first, second, last)] == [
        ["a", "b"],
        ["c", "d"],
        ["e"],
    ]


async def test_a_list_ends_at_an_id_that_it_holds(stores: TenantStores) -> None:
    await stores.states.put_many([samples.status(name) for name in ("a", "b:", "b:x", "b:y", "c")])
    found = await stores.states.list(after="b:", until="b:y")
    assert [status.document_id for status in found] == ["b:x", "b:y"]
    of_state = await stores.states.list(states=[samples.status().state], after="a", until="b:x")
    assert [status.document_id for status in of_state] == ["b:", "b:x"]


async def test_documents_between_two_ids_are_counted(stores: TenantStores) -> None:
    await stores.states.put_many([samples.status(name) for name in ("a", "b:x", "b:y", "c")])
    state = samples.status().state
    assert await stores.states.count_by_state(after="b:", until="b:y") == {state: 2}
    assert await stores.states.count_by_state(until="a") == {state: 1}
    assert await stores.states.count_by_state(after="b:y") == {state: 1}


async def test_a_list_holds_the_asked_states_only(stores: TenantStores) -> None:
    await stores.states.put_many(
        [
            samples.status("a", state=DocumentState.LIVE),
            samples.status("b", state=DocumentState.FAILED),
            samples.status("c", state=DocumentState.STALE),
        ]
    )
    found = await stores.states.list(states=[DocumentState.FAILED, DocumentState.STALE])
    assert [status.document_id for status in found] == ["b", "c"]


async def test_an_advance_moves_what_is_as_it_was(stores: TenantStores) -> None:
    await stores.states.put_many([samples.status()])
    moved = samples.status(state=DocumentState.LIVE)
    assert await stores.states.advance_many([moved]) == {"refill"}
    assert await stores.states.get("refill") == moved


@pytest.mark.parametrize(
    "changed",
    [
        {"received_at": samples.NOON + timedelta(seconds=1)},
        {"content_hash": "hash-2"},
        {"state": DocumentState.WITHDRAWN},
    ],
)
async def test_an_advance_leaves_what_was_received_anew_changed_or_withdrawn(
    stores: TenantStores, changed: dict[str, Any]
) -> None:
    newer = samples.status(**changed)
    await stores.states.put_many([newer])
    assert await stores.states.advance_many([samples.status(state=DocumentState.LIVE)]) == frozenset()
    assert await stores.states.get("refill") == newer


async def test_an_advance_may_complete_a_withdrawal(stores: TenantStores) -> None:
    withdrawn = samples.status(state=DocumentState.WITHDRAWN)
    await stores.states.put_many([withdrawn.model_copy(update={"live_content_hash": "hash-1"})])
    assert await stores.states.advance_many([withdrawn]) == {"refill"}
    assert await stores.states.get("refill") == withdrawn


async def test_an_advance_of_an_unknown_document_writes_nothing(stores: TenantStores) -> None:
    assert await stores.states.advance_many([samples.status()]) == frozenset()
    assert await stores.states.get("refill") is None


async def test_a_search_goes_on_where_the_one_before_ended(
    stores: TenantStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAGE", 2)
    monkeypatch.setattr(reading, "MOST_SEARCHED", 4)
    rows = [samples.status(name) for name in ("a", "b", "c", "d", "fee-1", "fee-2", "fee-3")]
    rows[1] = rows[1].model_copy(update={"title": "The FEE of 2026"})
    await stores.states.put_many(rows)
    sources = KnowledgeSources((KnowledgeSource(default_source(), ()),))
    listing, found, after = reading.ListDocuments(stores.states, sources=sources), list[list[str]](), None
    while after is not None or not found:
        page, after = await listing.page(sources.all, find="fee", after=after, limit=2)
        found.append([status.document_id for status in page])
    assert found == [["b"], ["fee-1", "fee-2"], ["fee-3"]]
