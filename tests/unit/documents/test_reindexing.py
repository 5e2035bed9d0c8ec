"""A reindex of a tenant's real embedded stores, while its worker runs, changes and withdraws documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from assistant.documents.reindexing import Reindex, ReindexReport
from assistant.documents.work import BatchEmbedder, OpenedVersions, WritableVersion
from assistant.domain.clock import Deadline
from assistant.domain.documents import (
    DocumentState,
    DocumentStatus,
    IndexModel,
    PassageQuery,
    SearchFilters,
)
from assistant.domain.errors import (
    ConflictError,
    DependencyError,
    DocumentInvalidError,
    EmbeddingUnavailableError,
    NotFoundError,
    PassageTooLongError,
)
from assistant.stores.documents import REINDEX_TURN
from assistant.stores.index.embedded_files import EmbeddedIndexVersions
from tests.unit.documents.scene import (
    DIMENSIONS,
    QUICK_EMBEDDING,
    CommandedEmbedder,
    Knowledge,
    document,
    until,
    vector_of,
)

OLD = IndexModel("model-of-eight", DIMENSIONS)
NEW = IndexModel("model-of-eight", DIMENSIONS, "tuned")
THIRD = IndexModel("model-of-eight", DIMENSIONS, "third")
DOCUMENTS = 40
OF_FIRST_BATCH = 3
"""Calls of the endpoint: one to see whether it answers, and two for 32 documents with their titles."""


def turned(vector: Sequence[float]) -> list[float]:
    return [*vector[1:], vector[0]]


class OtherEmbedder(CommandedEmbedder):
    """Another model: the same texts have other vectors."""

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        return [turned(vector) for vector in await super().embed(texts, deadline=deadline)]


@dataclass(slots=True)
class Site:
    """One tenant with documents, and the versions of its index."""

    knowledge: Knowledge
    embedders: dict[IndexModel, CommandedEmbedder] = field(
        default_factory=dict[IndexModel, CommandedEmbedder]
    )
    seen: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    @classmethod
    def below(cls, folder: Path) -> Site:
        site = cls(Knowledge.below(folder))
        site.embedders = {OLD: site.knowledge.embedder, NEW: OtherEmbedder(), THIRD: OtherEmbedder()}
        site.knowledge.versions = site.writable(holds=OLD)
        return site

    def version(self, model: IndexModel, *, holds: bool = False) -> WritableVersion:
        stores = self.knowledge.stores
        embedder = BatchEmbedder(self.embedders[model], clock=self.knowledge.clock, limits=QUICK_EMBEDDING)
        return WritableVersion(
            stores.versions.name_of(model), stores.passage_index.writer(model, holds=holds), embedder
        )

    def writable(self, *, holds: IndexModel | None = None) -> OpenedVersions:
        """Return the versions as one process opens them; the worker holds one."""
        by_name = {self.knowledge.stores.versions.name_of(model): model for model in self.embedders}

        async def open_one(name: str) -> WritableVersion:
            model = by_name[name]
            return self.version(model, holds=model == holds)

        return OpenedVersions(self.knowledge.stores.versions, open_one)

    def reindexing(self) -> Reindex:
        stores = self.knowledge.stores
        return Reindex(
            stores.knowledge,
            versions=stores.versions,
            writable=self.writable(),
            index_writes=stores.index_writes,
            clock=self.knowledge.clock,
        )

    async def reindex(self, model: IndexModel = NEW) -> ReindexReport:
        return await self.reindexing().run(
            self.version(model), model, progress=lambda done, total: self.seen.append((done, total))
        )

    async def found(self, model: IndexModel, text: str = "anything") -> dict[str, float | None]:
        """Return the documents of a version, each with the cosine of its title and the text "anything"."""
        vector = vector_of(text) if model is OLD else turned(vector_of(text))
        query = PassageQuery(text=text, vector=vector, filters=SearchFilters(), labels=frozenset(), size=200)
        deadline = Deadline.after(60, clock=self.knowledge.clock)
        found = await self.knowledge.stores.passage_index.search(model).search(query, deadline=deadline)
        return {hit.document_id: hit.title_cosine for hit in found.documents}

    async def live(self) -> str:
        return await self.knowledge.stores.versions.live()

    def name(self, model: IndexModel) -> str:
        return self.knowledge.stores.versions.name_of(model)

    def on_embedding(self, act: Callable[[], Awaitable[object]], *, after: int = 1) -> None:
        """Act once, in the call of the new model's endpoint that follows ``after`` others."""
        calls = 0

        async def before(_: Sequence[str]) -> None:
            nonlocal calls
            calls += 1
            if calls == after + 1:
                await act()

        self.embedders[NEW].before = before


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site.below(tmp_path / "tenant")
    await site.knowledge.add(*(document(f"d{number:02}") for number in range(DOCUMENTS)))
    await site.knowledge.work()
    yield site
    await site.knowledge.stores.close()


async def settled(site: Site) -> None:
    """Wait until the worker has nothing to do."""
    stores = site.knowledge.stores

    async def is_idle() -> bool:
        return await stores.queue.depth() + await stores.withdrawals.depth() == 0

    await until(is_idle)


async def test_all_documents_are_embedded_again_and_the_new_version_is_live(site: Site) -> None:
    report = await site.reindex()
    assert (report.live, report.before) == (site.name(NEW), site.name(OLD))
    assert (report.documents, report.passages) == (DOCUMENTS, DOCUMENTS)
    assert await site.live() == site.name(NEW)
    assert await site.found(NEW) == pytest.approx(await site.found(OLD))
    assert site.seen[0] == (0, DOCUMENTS)
    assert site.seen[-1] == (DOCUMENTS, DOCUMENTS)


async def test_a_reindex_that_was_interrupted_embeds_only_what_is_missing(site: Site) -> None:
    async def fail() -> None:
        raise asyncio.CancelledError

    site.on_embedding(fail, after=OF_FIRST_BATCH)
    with pytest.raises(asyncio.CancelledError):
        await site.reindex()
    assert await site.live() == site.name(OLD)
    report = await site.reindex()
    assert 0 < report.documents < DOCUMENTS
    assert len(await site.found(NEW)) == DOCUMENTS


async def test_documents_that_arrive_and_change_meanwhile_are_in_both(site: Site) -> None:
    async def change() -> None:
        await site.knowledge.add(document("new"), document("d05", content="Wait until day 30."))
        await settled(site)

    site.on_embedding(change)
    async with site.knowledge.working():
        await site.reindex()
    for model in (OLD, NEW):
        assert len(await site.found(model)) == DOCUMENTS + 1
        (stored,) = await site.version(model).index.read(["d05"])
        assert stored.passages[0].text == "Wait until day 30."


async def test_a_document_withdrawn_while_it_is_embedded_never_comes_back(site: Site) -> None:
    async def withdraw() -> None:
        await site.knowledge.withdraw(*(f"d{number:02}" for number in range(DOCUMENTS)))

    site.on_embedding(withdraw)  # the batch in flight was read before, and its documents are gone now
    async with site.knowledge.working():
        await site.reindex()
        await settled(site)
    assert await site.found(NEW) == {}
    assert await site.found(OLD) == {}
    await site.reindex(OLD)
    assert await site.found(OLD) == {}
    assert site.knowledge.files_with("Wait until day 24", below="index") == []


async def test_a_withdrawal_during_a_reindex_leaves_no_text_in_the_version_that_is_filled(site: Site) -> None:
    async def withdraw() -> None:
        await site.knowledge.add(document("marked", content="A marked sentence."))
        await settled(site)
        assert site.knowledge.files_with("A marked sentence", below=f"index/{site.name(NEW)}")
        await site.knowledge.withdraw("marked")
        await settled(site)
        assert site.knowledge.files_with("A marked sentence", below="index") == []

    site.on_embedding(withdraw)
    async with site.knowledge.working():
        await site.reindex()


async def test_after_the_switch_both_versions_receive_what_is_added(site: Site) -> None:
    async with site.knowledge.working():
        await site.reindex()
        await site.knowledge.add(document("later"))
        await settled(site)
    assert "later" in await site.found(NEW)
    assert "later" in await site.found(OLD)


async def test_a_document_is_called_live_when_both_versions_hold_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.reindex()
    states, holding = site.knowledge.stores.states, list[bool]()
    advance_many = states.advance_many

    async def noting(statuses: Sequence[DocumentStatus]) -> frozenset[str]:
        if any(status.state is DocumentState.LIVE for status in statuses):
            holding.extend(["later" in await site.found(model) for model in (NEW, OLD)])
        return await advance_many(statuses)

    monkeypatch.setattr(states, "advance_many", noting)
    async with site.knowledge.working():
        await site.knowledge.add(document("later"))
        await settled(site)
    assert holding == [True, True]


async def test_after_the_switch_the_index_is_written_without_the_former_model(site: Site) -> None:
    async def down(_: Sequence[str]) -> None:
        raise EmbeddingUnavailableError("The former endpoint is gone.")

    async with site.knowledge.working():
        await site.reindex()
        site.embedders[OLD].before = down
        await site.knowledge.add(document("later"))
        await settled(site)
    assert "later" in await site.found(NEW)
    assert "later" not in await site.found(OLD)


async def test_the_way_back_catches_up_and_switches_while_the_worker_runs(site: Site) -> None:
    await test_after_the_switch_the_index_is_written_without_the_former_model(site)
    site.embedders[OLD].before = None
    other = await site.reindexing().other()
    assert other.name == site.name(OLD)
    async with site.knowledge.working():
        report = await site.reindex(OLD)
    assert (report.live, report.documents) == (site.name(OLD), 1)
    assert await site.live() == site.name(OLD)
    assert "later" in await site.found(OLD)


async def test_without_another_version_there_is_no_way_back(site: Site) -> None:
    with pytest.raises(NotFoundError, match="no other version"):
        await site.reindexing().other()


async def test_the_live_model_again_changes_nothing(site: Site) -> None:
    report = await site.reindex(OLD)
    assert (report.live, report.before, report.documents) == (site.name(OLD), None, 0)


async def test_a_third_version_is_refused_until_the_second_is_dropped(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.documents.reindexing.DROP_AFTER_S", 0.0)
    await site.reindex()
    with pytest.raises(ConflictError, match="--drop-old"):
        await site.reindex(THIRD)
    assert await site.reindexing().drop_others() == [site.name(OLD)]
    assert not (site.knowledge.folder / "index" / site.name(OLD)).exists()
    assert len(await site.found(NEW)) == DOCUMENTS
    assert (await site.reindex(THIRD)).live == site.name(THIRD)


async def test_of_two_at_once_one_is_refused_at_once(site: Site) -> None:
    turn = site.knowledge.stores.get(REINDEX_TURN)

    async def other() -> None:
        with pytest.raises(DependencyError, match="Another reindex of this tenant runs"):
            async with turn:
                pass

    site.on_embedding(other)
    async with turn:
        await site.reindex()


async def test_an_endpoint_that_fails_in_the_middle_loses_nothing(site: Site) -> None:
    async def fail() -> None:
        site.embedders[NEW].before = down

    async def down(_: Sequence[str]) -> None:
        raise EmbeddingUnavailableError("The embedding endpoint is unreachable.")

    site.on_embedding(fail, after=OF_FIRST_BATCH - 1)
    with pytest.raises(EmbeddingUnavailableError):
        await site.reindex()
    assert await site.live() == site.name(OLD)
    assert len(await site.found(OLD)) == DOCUMENTS
    site.embedders[NEW].before = None
    await site.reindex()
    assert len(await site.found(NEW)) == DOCUMENTS


async def test_a_model_that_cannot_embed_a_passage_is_refused_with_its_name(site: Site) -> None:
    async def before(texts: Sequence[str]) -> None:
        if any("About d07" in text for text in texts):
            raise PassageTooLongError("Too long.")

    site.embedders[NEW].before = before
    with pytest.raises(DocumentInvalidError, match="d07 cannot be embedded"):
        await site.reindex()
    assert await site.live() == site.name(OLD)


async def test_a_title_over_the_model_s_limit_gets_the_first_passage_s_vector(site: Site) -> None:
    async def before(texts: Sequence[str]) -> None:
        if "About d07" in texts:  # the title alone, or among others
            raise PassageTooLongError("Too long.")

    site.embedders[NEW].before = before
    await site.reindex()
    assert len(await site.found(NEW)) == DOCUMENTS


async def test_a_worker_that_starts_with_another_model_begins_anew(site: Site) -> None:
    await site.reindex()
    versions = EmbeddedIndexVersions(site.knowledge.folder / "index", own=THIRD)
    await versions.adopt()
    assert await versions.kept() == [versions.name_of(THIRD)]
