"""A question with an approved answer gets it as it stands, while its sources are unchanged."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from assistant.answer.answer import AnswerQuestion
from assistant.answer.request import AnswerRequest
from assistant.domain.desk import BoundSource
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import SearchUnavailableError
from tests.fakes.answering import UPDATED_AT, FakeTenant, agent, document
from tests.options.desk.desk import FakeDesk, approved
from tests.unit.answer.asking_and_reading import Asked, deadline

QUESTION = "Which desk takes a refill that came too soon?"
TEXT = "Send it to the **Claims Desk**.\n\nTell the caller:\n- it takes a day\n- nobody pays"
BOUND = BoundSource(document_id="refill", content_hash="hash-of-refill")


def status(**changes: object) -> DocumentStatus:
    made = DocumentStatus(
        document_id="refill",
        title="Refill too soon",
        state=DocumentState.LIVE,
        content_hash="hash-of-refill",
        live_content_hash="hash-of-refill",
        received_at=UPDATED_AT,
        updated_at=UPDATED_AT,
    )
    return made.model_copy(update=changes)


class Scene:
    """A tenant with one document, whose desk has one approved answer that rests on it."""

    def __init__(self, *, writes: bool = False, labels: tuple[str, ...] = ()) -> None:
        self.tenant = FakeTenant.writing() if writes else FakeTenant()
        self.tenant.search.documents[:] = [
            document("refill"),
            document("other", "Nothing of it.", title="Other"),
        ]
        self.tenant.live.live["refill"] = status()
        self.desk = FakeDesk()
        self.desk.add(approved(QUESTION, TEXT, sources=[BOUND], labels=labels))
        self.tenant.revisions = self.desk

    async def ask(self, question: str = QUESTION, *, labels: frozenset[str] = frozenset()) -> Asked:
        use_case = AnswerQuestion(self.tenant.services)
        await use_case.adaptations.refresh()
        prepared = await use_case.prepare(
            AnswerRequest(question=question), identity=agent(labels=labels), deadline=deadline(self.tenant)
        )
        async with aclosing(use_case.stream(prepared)) as events:
            seen = [event async for event in events]
        return Asked(seen, prepared, self.tenant)


async def test_it_cites_itself_and_the_documents_that_it_rests_on() -> None:
    asked = await Scene().ask()
    first, second = asked.sources.sources[:2]
    assert (first.kind, first.title, first.document_id, first.document_url) == (
        "approved",
        QUESTION,
        "approved/one",
        "",
    )
    assert (second.kind, second.document_id) == ("document", "refill")
    assert asked.done.citations == (1, 2)


async def test_no_model_is_called() -> None:
    scene = Scene(writes=True)
    assert (await scene.ask()).kept.approved
    assert scene.tenant.generator.requests == []


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"content_hash": "newer"}, id="newer content was received"),
        pytest.param({"live_content_hash": "newer"}, id="other content is live"),
        pytest.param({"state": DocumentState.WITHDRAWN}, id="withdrawn"),
        pytest.param({"state": DocumentState.WITHHELD}, id="withheld"),
    ],
)
async def test_it_is_not_served_once_a_source_changed(changed: dict[str, object]) -> None:
    scene = Scene()
    scene.tenant.live.live["refill"] = status(**changed)
    assert not (await scene.ask()).kept.approved


async def test_it_is_not_served_when_its_source_is_closed_to_the_reader() -> None:
    scene = Scene()
    scene.tenant.search.documents[0] = document("refill", labels=("hr",))
    assert not (await scene.ask()).kept.approved


async def test_it_is_not_served_when_its_sources_cannot_be_checked() -> None:
    scene = Scene()

    async def get_many(_: object) -> dict[str, DocumentStatus]:
        raise SearchUnavailableError("Away.")

    scene.tenant.live.get_many = get_many  # pyright: ignore[reportAttributeAccessIssue]
    assert not (await scene.ask()).kept.approved


async def test_of_two_questions_each_gets_its_own_answer() -> None:
    asked = await Scene().ask(f"{QUESTION} And on which day is a retail refill payable?")
    assert TEXT in asked.text
    assert "day 23" in asked.text
    assert asked.kept.approved


async def test_an_approved_text_is_shown_as_it_was_approved() -> None:
    text = "Sign in at https://pay.example/card with **their** card."
    scene = Scene()
    scene.desk.add(approved(QUESTION, text, sources=[BOUND]))
    asked = await scene.ask()
    assert asked.text == text
    assert [sentence.quote for sentence in asked.sentences] == [None]
