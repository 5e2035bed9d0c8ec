"""Which approved answer a question gets or is offered, and why it gets none."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from assistant.answer.adaptations import Adaptations
from assistant.answer.answer import AnswerQuestion
from assistant.answer.request import AnswerRequest
from assistant.answer.scores import CosineScale
from assistant.domain.desk import BoundSource, ItemState
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import RecordsUnavailableError, SearchUnavailableError
from assistant.options.desk.approved import LEAST_COSINE, ApprovedAnswers, LiveAnswer, Match, OfferApproved
from assistant.options.desk.trial import TRIALS, ApprovedItem
from assistant.tenant.tenant import EmbeddingSection
from assistant.text.language import language
from tests.options.desk.desk import AT, LATER, FakeDesk, approved, glossary
from tests.stage.answering import UPDATED_AT, FakeTenant, agent, document, vector_of
from tests.unit.answer.asking_and_reading import Asked, deadline
from tests.unit.evaluation.results import question

QUESTION = "May a child pick up a controlled prescription?"
TODAY = date(2026, 3, 1)


def answers(*questions: str, labels: tuple[str, ...] = (), expires_on: date = LATER) -> ApprovedAnswers:
    live = [
        LiveAnswer(
            f"item-{number}",
            1,
            AT,
            approved(question, labels=labels, expires_on=expires_on, vectors=(tuple(vector_of(question)),)),
        )
        for number, question in enumerate(questions)
    ]
    return compiled(live)


def compiled(live: list[LiveAnswer]) -> ApprovedAnswers:
    return ApprovedAnswers.of(live, language=language("en"), scale=CosineScale.of(EmbeddingSection()))


def match(made: ApprovedAnswers, question: str, *labels: str, today: date = TODAY) -> Match:
    return made.match(question, vector_of(question), labels=frozenset(labels), today=today)


@pytest.mark.parametrize(
    "asked",
    [
        "may a child pick up a controlled  prescription",
        "May a child picks up a controlled prescriptions?",
        "\u201cMay a child pick up a controlled prescription?\u201d",
    ],
    ids=["case and space", "inflection", "quotes"],
)
def test_the_same_question_gets_the_answer_however_it_is_typed(asked: str) -> None:
    assert match(answers(QUESTION), asked).reason == "equal"


@pytest.mark.parametrize(
    "asked",
    [
        "May an adult pick up a controlled prescription?",
        "May a child never pick up a controlled prescription?",
        "Pick up a controlled prescription, may a child?",
    ],
    ids=["another word", "a negation", "another order"],
)
def test_a_near_question_is_only_offered_the_answer(asked: str) -> None:
    found = match(answers("How long is a refill held?", QUESTION), asked)
    assert found.live is not None
    assert found.reason == "near"
    assert (found.live.item_id, found.wording) == ("item-1", QUESTION)
    assert LEAST_COSINE <= found.cosine <= 1.0


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("May a child pick up 25 controlled prescription?", "number"),
        ("May a child pick up a C2 controlled prescription?", "number"),
        ("Where is the moon tonight?", "none_near"),
    ],
)
def test_a_question_without_a_match_says_why(asked: str, reason: str) -> None:
    found = match(answers(QUESTION), asked)
    assert found.reason not in ("equal", "near")
    assert found.reason == reason


def test_a_question_that_names_something_else_is_not_offered_the_answer() -> None:
    metformin, lisinopril = (f"May a child pick up a {name} order?" for name in ("metformin", "lisinopril"))
    other = "Is lisinopril on the shelf?"
    found = match(answers(metformin, other), lisinopril)
    assert found.reason not in ("equal", "near")
    assert found.reason == "name"
    misspelled = lisinopril.replace("lisinopril", "metfromin")
    assert match(answers(metformin, other), misspelled).reason == "near"


def test_a_reader_needs_every_label() -> None:
    made = answers(QUESTION, labels=("hr", "controlled"))
    assert match(made, QUESTION, "hr").reason not in ("equal", "near")
    assert match(made, QUESTION, "hr", "controlled", "staff").reason == "equal"


def test_an_answer_is_served_until_the_day_before_it_expires() -> None:
    made = answers(QUESTION, expires_on=TODAY)
    assert match(made, QUESTION, today=TODAY - timedelta(days=1)).reason == "equal"
    assert match(made, QUESTION, today=TODAY).reason not in ("equal", "near")


def adaptations(desk: FakeDesk | None, tenant: FakeTenant | None = None) -> Adaptations:
    return Adaptations(replace(tenant or FakeTenant(), revisions=desk).services)


def matched(made: Adaptations, question: str = QUESTION) -> str | None:
    [offer] = [offer for offer in made.offers if isinstance(offer, OfferApproved)]
    if offer.approved is None:
        return None
    return offer.approved.match(question, vector_of(question), labels=frozenset(), today=AT.date()).reason


@pytest.mark.parametrize("state", [ItemState.WITHDRAWN, ItemState.SUSPENDED, ItemState.PROPOSED])
async def test_an_answer_that_is_not_live_any_more_is_gone_after_the_next_refresh(state: ItemState) -> None:
    desk = FakeDesk()
    desk.add(approved())
    made = adaptations(desk)
    await made.refresh()
    desk.add(approved(state=state))
    await made.refresh()
    assert matched(made) is None


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


async def test_an_item_that_this_release_cannot_read_is_left_out_and_the_others_serve() -> None:
    desk = FakeDesk()
    desk.add(approved(), item_id="one")
    desk.add(approved("How long is a refill held?"), item_id="two")
    desk.items[1] = desk.items[1].model_copy(update={"body": '{"from": "tomorrow"}'})
    made = adaptations(desk)
    assert await made.refresh()
    assert matched(made) == "equal"


ASKED = "Which desk takes a refill that came too soon?"
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
        self.desk.add(approved(ASKED, TEXT, sources=[BOUND], labels=labels))
        self.tenant.revisions = self.desk

    async def ask(self, question: str = ASKED, *, labels: frozenset[str] = frozenset()) -> Asked:
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
        ASKED,
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


async def test_an_approved_text_is_shown_as_it_was_approved() -> None:
    text = "Sign in at https://pay.example/card with **their** card."
    scene = Scene()
    scene.desk.add(approved(ASKED, text, sources=[BOUND]))
    asked = await scene.ask()
    assert asked.text == text
    assert [sentence.quote for sentence in asked.sentences] == [None]


ITEM = ApprovedItem(
    approved_id="refill",
    question="When is a refill payable?",
    text="On day 23.",
    document_ids=("refills",),
    paraphrases=("when is a refill payable",),
    lookalikes=("Which dog may enter the shop?",),
)


async def test_an_approved_answer_is_seen_by_its_paraphrase_and_no_other(tmp_path: Path) -> None:
    others = [question("a", documents=("refills",)), question("b", documents=("x",))]
    approved, asked = tmp_path / "approved.jsonl", tmp_path / "others.jsonl"
    approved.write_text(ITEM.model_dump_json())
    asked.write_text("\n".join(one.model_dump_json() for one in others))
    judged = await TRIALS["approved"](FakeTenant().services, (approved, asked))
    assert [one.id.split()[0] for one in judged] == ["paraphrases", "look-alikes", "others"]
    assert judged[0].values["paraphrases that see their answer"] == 1.0
    assert all(one.values["wrongly served"] == 0.0 for one in judged)
