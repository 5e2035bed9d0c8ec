"""Documents of older releases come under the tenant file's sources and labels, embedded and on AWS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from assistant.domain.clock import SystemClock
from assistant.domain.documents import DocumentState
from assistant.knowledge.migration import Change, MigrateKnowledge
from assistant.knowledge.ports import KnowledgeStores
from assistant.knowledge.sources import KnowledgeSources
from assistant.settings.tenant import SourceEntry, TenantConfig
from tests.contracts import samples
from tests.contracts.aws_twins import open_s3_twin, open_sqs_twin
from tests.contracts.dynamodb_twin import open_dynamodb_twin
from tests.contracts.embedded_twin import open_embedded_twin

HANDBOOK, WIKI = SourceEntry(name="handbook", namespace=""), SourceEntry(name="wiki")


@pytest.fixture(params=["embedded", "aws"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KnowledgeStores]:
    async with AsyncExitStack() as stack:
        if request.param == "embedded":
            one = await stack.enter_async_context(open_embedded_twin(tmp_path))
            yield KnowledgeStores(one.documents, one.states, one.queue, one.withdrawals)
            return
        request.getfixturevalue("aws_server_url")
        s3 = await stack.enter_async_context(open_s3_twin(tmp_path))
        dynamodb = await stack.enter_async_context(open_dynamodb_twin(tmp_path))
        sqs = await stack.enter_async_context(open_sqs_twin(tmp_path))
        yield KnowledgeStores(s3.documents, dynamodb.states, sqs.queue, sqs.withdrawals)


def migration(stores: KnowledgeStores, *entries: SourceEntry, into: str | None = None) -> MigrateKnowledge:
    tenant = TenantConfig(
        schema_version=1, name="clinic", display_name="Clinic", labels=("hr",), sources=entries
    )
    sources = KnowledgeSources.of(tenant)
    return MigrateKnowledge(
        stores, sources=sources, into=sources.named(into) if into else None, clock=SystemClock()
    )


async def live(stores: KnowledgeStores, document_id: str, *, labels: Sequence[str] = ()) -> None:
    """Have a document as an older release left it: its state knows no labels."""
    document = samples.document(document_id).model_copy(update={"labels": tuple(labels)})
    await stores.documents.put(document)
    content_hash = document.content_hash()
    status = samples.status(document_id, state=DocumentState.LIVE).model_copy(
        update={"content_hash": content_hash, "live_content_hash": content_hash}
    )
    await stores.states.put_many([status])


async def planned(migrate: MigrateKnowledge) -> list[tuple[str, Change, str | None]]:
    return [(one.document_id, one.change, one.new_id) async for one in migrate.plan()]


async def test_a_plan_changes_nothing_and_says_what_each_document_needs(stores: KnowledgeStores) -> None:
    await live(stores, "a")
    await live(stores, "b", labels=["hr"])
    await live(stores, "c", labels=["staff"])
    await live(stores, "faq:refill")
    before = await stores.states.list()
    migrate = migration(stores, HANDBOOK, WIKI)
    assert await planned(migrate) == [
        ("a", Change.KEEP_LABELS, None),
        ("b", Change.KEEP_LABELS, None),
        ("c", Change.WITHHOLD, None),
        ("faq:refill", Change.KEEP_LABELS, None),
        ("faq:refill", Change.RENAME, "faq-refill"),
    ]
    assert await stores.states.list() == before


async def test_a_migrated_document_needs_no_further_step(stores: KnowledgeStores) -> None:
    await live(stores, "a", labels=["hr"])
    await live(stores, "c", labels=["staff"])
    await live(stores, "faq:refill", labels=["hr"])
    migrate = migration(stores, HANDBOOK, WIKI)
    await migrate.apply()
    found = await stores.states.get_many(["a", "c", "faq:refill", "faq-refill"])
    assert {one: status.state for one, status in found.items()} == {
        "a": DocumentState.LIVE,
        "c": DocumentState.WITHHELD,
        "faq:refill": DocumentState.WITHDRAWN,
        "faq-refill": DocumentState.RECEIVED,
    }
    assert (found["a"].labels, found["a"].live_labels) == (("hr",), ("hr",))
    assert found["faq-refill"].labels == ("hr",)
    assert await stores.documents.get("faq:refill") is None
    renamed = await stores.documents.get("faq-refill")
    assert renamed is not None
    assert renamed.content_hash() == found["faq-refill"].content_hash
    taken = await stores.queue.receive(limit=10, wait_s=1, visibility_timeout_s=60)
    assert [message.document_id for message in taken] == ["faq-refill"]
    assert await planned(migrate) == []


async def test_documents_without_a_source_get_the_one_that_is_named(stores: KnowledgeStores) -> None:
    await live(stores, "a")
    assert await planned(migration(stores, WIKI)) == [
        ("a", Change.KEEP_LABELS, None),
        ("a", Change.STUCK, None),
    ]
    await migration(stores, WIKI, into="wiki").apply()
    status = await stores.states.get("wiki:a")
    assert status is not None
    assert status.state == DocumentState.RECEIVED


async def test_an_interrupted_renaming_is_resumed(stores: KnowledgeStores) -> None:
    await live(stores, "faq:refill")
    migrate = migration(stores, HANDBOOK)
    document = await stores.documents.get("faq:refill")
    assert document is not None
    renamed = document.model_copy(update={"document_id": "faq-refill"})
    await stores.documents.put(renamed)
    status = samples.status("faq-refill", state=DocumentState.RECEIVED)
    await stores.states.put_many(
        [status.model_copy(update={"content_hash": renamed.content_hash(), "labels": ()})]
    )
    await migrate.apply()
    old = await stores.states.get("faq:refill")
    assert old is not None
    assert old.state == DocumentState.WITHDRAWN


async def test_an_id_that_is_taken_is_left_to_a_person(stores: KnowledgeStores) -> None:
    await live(stores, "faq:refill")
    await live(stores, "faq-refill", labels=["hr"])
    migrations = await migration(stores, HANDBOOK).apply()
    assert [one.document_id for one in migrations if one.change is Change.STUCK] == ["faq:refill"]
    old = await stores.states.get("faq:refill")
    assert old is not None
    assert old.state == DocumentState.LIVE
