"""What a process that serves loads from the review desk, and how it goes on without it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from assistant.answer.adaptations import POLL_EVERY_S, Adaptations
from assistant.domain.answers import APPROVED_PREFIX
from assistant.domain.desk import BoundSource, ItemState
from assistant.domain.errors import EmbeddingUnavailableError, RecordsUnavailableError
from assistant.options.desk.approved import ApprovedAnswer, OfferApproved, TextsWithApproved, approved_hash
from tests.fakes.answering import FakeTenant, document, vector_of
from tests.options.desk.desk import AT, FakeDesk, approved, glossary

QUESTION = "May a child pick up a controlled prescription?"


def adaptations(desk: FakeDesk | None, tenant: FakeTenant | None = None) -> Adaptations:
    return Adaptations(replace(tenant or FakeTenant(), revisions=desk).services)


def matched(made: Adaptations, question: str = QUESTION) -> str | None:
    [offer] = [offer for offer in made.offers if isinstance(offer, OfferApproved)]
    if offer.approved is None:
        return None
    return offer.approved.match(question, vector_of(question), labels=frozenset(), today=AT.date()).reason


async def test_a_live_answer_is_matched_after_the_next_refresh() -> None:
    desk = FakeDesk()
    made = adaptations(desk)
    assert await made.refresh()
    assert matched(made) is None
    desk.add(approved())
    assert await made.refresh()
    assert matched(made) == "equal"


@pytest.mark.parametrize("state", [ItemState.WITHDRAWN, ItemState.SUSPENDED, ItemState.PROPOSED])
async def test_an_answer_that_is_not_live_any_more_is_gone_after_the_next_refresh(state: ItemState) -> None:
    desk = FakeDesk()
    desk.add(approved())
    made = adaptations(desk)
    await made.refresh()
    desk.add(approved(state=state))
    await made.refresh()
    assert matched(made) is None


async def test_vectors_of_the_served_model_are_used_as_they_are() -> None:
    desk, tenant = FakeDesk(), FakeTenant()
    vectors = (tuple(vector_of(QUESTION)),)
    desk.add(approved(vectors=vectors, embedding_model=tenant.config.embedding.model))
    made = adaptations(desk, tenant)
    await made.refresh()
    assert tenant.embedder.texts == []
    assert matched(made) == "equal"


async def test_a_live_glossary_entry_joins_the_vocabulary_and_a_withdrawn_one_leaves_it() -> None:
    desk = FakeDesk()
    made = adaptations(desk)
    desk.add(glossary("water pill", "diuretic"))
    await made.refresh()
    assert made.now.vocabulary.expand("her water pill").endswith("\ndiuretic")
    desk.add(glossary("water pill", "diuretic", state=ItemState.WITHDRAWN))
    await made.refresh()
    assert made.now.vocabulary.expand("her water pill") == "her water pill"


async def test_the_last_snapshot_serves_while_the_store_is_away_and_one_line_says_so() -> None:
    desk = FakeDesk()
    desk.add(approved())
    made = adaptations(desk)
    await made.refresh()
    desk.error = RecordsUnavailableError("The desk is away.")
    with capture_logs() as logs:
        assert not await made.refresh()
        assert not await made.refresh()
        assert matched(made) == "equal"
        desk.error = None
        assert await made.refresh()
    assert [entry["event"] for entry in logs] == ["desk_unavailable", "desk_available"]


async def test_a_load_that_fails_is_tried_again() -> None:
    desk, tenant = FakeDesk(), FakeTenant()
    made = adaptations(desk, tenant)
    desk.add(approved())
    tenant.embedder.error = EmbeddingUnavailableError("Down.")
    assert not await made.refresh()
    tenant.embedder.error = None
    assert await made.refresh()
    assert matched(made) == "equal"


async def test_an_item_that_this_release_cannot_read_is_left_out_and_the_others_serve() -> None:
    desk = FakeDesk()
    desk.add(approved(), item_id="one")
    desk.add(approved("How long is a refill held?"), item_id="two")
    desk.items[1] = desk.items[1].model_copy(update={"body": '{"from": "tomorrow"}'})
    made = adaptations(desk)
    assert await made.refresh()
    assert matched(made) == "equal"


async def test_the_pauses_grow_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            raise asyncio.CancelledError

    monkeypatch.setattr("assistant.answer.adaptations.asyncio.sleep", pause)
    desk = FakeDesk(error=RecordsUnavailableError("Away."))
    with pytest.raises(asyncio.CancelledError):
        await adaptations(desk).run()
    assert pauses == [2 * POLL_EVERY_S, 4 * POLL_EVERY_S, 15.0, 15.0, 15.0]


class TestTextsOfApprovedAnswers:
    async def read(self, body: ApprovedAnswer, *, labels: frozenset[str] = frozenset()) -> str | None:
        desk, tenant = FakeDesk(), FakeTenant(withdrawn=set[str]()).with_documents(document("refill"))
        desk.add(approved())
        desk.add(body)
        texts = TextsWithApproved(tenant.texts, desk)
        found = await texts.read(APPROVED_PREFIX + "one", approved_hash(approved().text), labels=labels)
        return found.text if found else None

    async def test_a_text_is_read_by_its_hash_from_any_revision(self) -> None:
        assert await self.read(approved(text="Another one.")) == approved().text

    async def test_a_withdrawn_answer_has_no_text(self) -> None:
        assert await self.read(approved(state=ItemState.WITHDRAWN)) is None

    async def test_a_reader_needs_every_label(self) -> None:
        body = approved(labels=("hr", "controlled"))
        assert await self.read(body, labels=frozenset({"hr"})) is None
        assert await self.read(body, labels=frozenset({"hr", "controlled"})) == approved().text

    async def test_a_text_goes_with_its_source(self) -> None:
        here = approved(sources=[BoundSource(document_id="refill", content_hash="h")])
        gone = approved(sources=[BoundSource(document_id="withdrawn", content_hash="h")])
        assert await self.read(here) == approved().text
        assert await self.read(gone) is None

    async def test_documents_are_read_as_before(self) -> None:
        tenant = FakeTenant().with_documents(document("refill"))
        texts = TextsWithApproved(tenant.texts, FakeDesk())
        assert await texts.is_readable("refill", labels=frozenset())
        assert await texts.read("refill", "hash-of-refill", labels=frozenset()) is not None
