"""How a message and its conversation are read, with a model and without, and what a model checks after."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from math import hypot
from typing import Any

import pytest

from assistant.answer.events import Checked, Done, Preview, RedFlags
from assistant.answer.heads import Heads, shipped_chat_weights, shipped_reading_weights
from assistant.answer.message import questions_of
from assistant.answer.plan import Written
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.answers import FinishReason, Reading
from assistant.domain.clock import Deadline
from assistant.domain.errors import GenerationUnavailableError
from assistant.service.streams import whole_answer
from assistant.stores.ports import GenerationRequest, GenerationStream
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import language
from tests.stage.answering import (
    QUOTING_MODEL,
    WRITING_MODEL,
    FakeEmbedder,
    FakeTenant,
    Gate,
    ScriptedGenerator,
    Step,
    document,
    verdicts,
)
from tests.unit.answer.asking_and_reading import QUESTION, Asked, ask, prepare

TEXT = "Retail refills are payable on day 23 of 30 [1.1].\n"
TURNS = [
    {"who": "customer", "text": "can you split my order in two"},
    {"who": "agent", "text": "How many items are in it?"},
    {"who": "customer", "text": "nine, three of them cold"},
]
FIRE = {
    "name": "fire",
    "text": "A house may burn.",
    "call": "112",
    "examples": [f"smoke in the {place}" for place in ("kitchen", "hall", "attic", "shed", "barn")],
}


def reading(**changes: Any) -> str:
    told = {"language": "en", "asks": True, "facts": [], "emergency": None, "queries": []}
    return json.dumps(told | changes)


class ReadsWritesChecks(ScriptedGenerator):
    """Plays one step to each prompt, by the task of the prompt."""

    def __init__(
        self, *, read: Step = "", text: Step = TEXT, check: Step = "", reading: Gate | None = None
    ) -> None:
        super().__init__()
        self._steps = {"You read": read, "You check": check, "You help": text}
        self._reading = reading
        self.asked: list[str] = []

    @asynccontextmanager
    async def stream(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncIterator[GenerationStream]:
        task = next(name for name in self._steps if request.messages[0].content.startswith(name))
        self.asked.append(task)
        if task == "You read" and self._reading is not None:
            self._reading.reached.set()
            await self._reading.opened.wait()
        self.steps = [self._steps[task]]
        async with super().stream(request, deadline=deadline) as stream:
            yield stream


@pytest.fixture
def tenant() -> FakeTenant:
    split = document("split", "An order with cold items is never split.", title="Split an order")
    return FakeTenant.writing().with_documents(document(), split)


async def test_a_chat_is_searched_as_the_model_reads_it_and_shown_before(tenant: FakeTenant) -> None:
    queries = ["Can an order with cold items be split?"]
    tenant.generator = ReadsWritesChecks(read=f"Sure: {reading(queries=queries)} Done.")
    asked = await ask(tenant, "", turns=TURNS)
    assert asked.names[:3] == ["started", "preview", "sources"]
    assert isinstance(asked.events[1], Preview)
    told = tenant.generator.requests[-1].messages[-1].content
    assert told.index("An order with cold items is never split.") < told.index("Customer: nine")
    assert [query.text for query in tenant.search.queries][-1] == queries[0]
    record = tenant.records.answers[asked.started.answer_id]
    assert (record.usage.prompt_tokens, record.degraded) == (100, ())


@pytest.mark.parametrize(
    "read", ["no JSON", reading(language="English"), GenerationUnavailableError("down")], ids=str
)
async def test_without_a_reading_the_chats_own_words_are_searched(tenant: FakeTenant, read: Step) -> None:
    tenant.generator = ReadsWritesChecks(read=read)
    asked = await ask(tenant, "", turns=TURNS)
    assert asked.text == "Retail refills are payable on day 23 of 30."
    assert tenant.records.answers[asked.started.answer_id].degraded == ("reading by the model",)


@pytest.mark.parametrize(
    "body", [{"question": QUESTION}, {"question": "", "turns": TURNS}], ids=["one", "chat"]
)
async def test_an_emergency_that_the_model_names_is_raised_and_kept(
    tenant: FakeTenant, body: dict[str, Any]
) -> None:
    tenant.configure(red_flags=[FIRE])
    tenant.generator = ReadsWritesChecks(read=reading(emergency="fire"))
    asked = await ask(tenant, **body)
    [event] = [event for event in asked.events if isinstance(event, RedFlags)]
    assert [(flag.name, flag.call) for flag in event.red_flags] == [("fire", "112")]
    assert asked.started.red_flags == ()
    assert tenant.records.answers[asked.started.answer_id].red_flags == ("fire",)


async def test_an_emergency_that_the_model_names_late_is_raised_and_kept(tenant: FakeTenant) -> None:
    tenant.configure(red_flags=[FIRE])
    held = Gate()
    text = "Retail refills are payable on day 23 of 30 [1.1].\nThe rest is not [1.1].\n"
    tenant.generator = ReadsWritesChecks(read=reading(emergency="fire"), text=text, reading=held)
    use_case, plan = await prepare(tenant)
    names, answer_id = list[str](), plan.basis.question.ids.answer_id
    async with aclosing(use_case.stream(plan)) as events:
        async for event in events:
            names.append(event.event)
            if event.event == "token":
                held.opened.set()
    assert "token" in names[: names.index("red_flags")]
    assert tenant.records.answers[answer_id].red_flags == ("fire",)


@pytest.mark.parametrize(
    ("read", "unchecked"), [(reading(language="es"), None), ("no JSON", "es")], ids=["read", "not-read"]
)
async def test_a_language_is_unchecked_until_the_model_has_read_the_message(
    tenant: FakeTenant, read: Step, unchecked: str | None
) -> None:
    tenant.configure(red_flags=[FIRE])
    tenant.generator = ReadsWritesChecks(read=read)
    asked = await ask(tenant, "no puedo respirar bien y me duele mucho el pecho, que hago")
    told = [event.red_flags for event in asked.events if isinstance(event, RedFlags)]
    assert (asked.started.unchecked_language, told) == ("es", [()] if unchecked is None else [])
    assert tenant.records.answers[asked.started.answer_id].unchecked_language == unchecked
    assert whole_answer(asked.events).unchecked_language == unchecked


async def test_sentences_are_checked_after_the_end_and_the_verdicts_kept_without_words(
    tenant: FakeTenant,
) -> None:
    tenant.use_model(checks=True)
    tenant.generator = ReadsWritesChecks(check=verdicts((1, "opposite", 1, "day 23")))
    asked = await ask(tenant)
    done, checked = asked.events[-2:]
    assert isinstance(done, Done)
    assert isinstance(checked, Checked)
    assert done.check_follows
    [sentence] = checked.sentences
    assert (sentence.index, sentence.verdict, sentence.words) == (0, "opposite", "day 23")
    assert sentence.cited == asked.sentences[0].cited[0]
    lines = tenant.generator.requests[-1].messages[-1].content
    assert "“Refill too soon”:\n1. Retail refills are payable on day 23 of 30." in lines
    stored = tenant.records.checks[asked.started.answer_id]
    assert [(one.verdict, one.words) for one in stored.sentences] == [("opposite", "")]


@pytest.mark.parametrize(
    "check", ["no JSON", verdicts((2, "held", 1, "")), verdicts((1, "held", 9, ""))], ids=str
)
async def test_a_check_that_cannot_be_read_checks_nothing(tenant: FakeTenant, check: str) -> None:
    tenant.use_model(checks=True)
    tenant.generator = ReadsWritesChecks(check=check)
    asked = await ask(tenant)
    assert isinstance(asked.events[-1], Checked)
    assert asked.events[-1].sentences == ()


THANKS = "great, thank you!"
CHAT_TURNS = [
    {"who": "customer", "text": "my claim is 10045"},
    {"who": "agent", "text": "Thank you. Which medicine is it?"},
    {"who": "customer", "text": QUESTION},
]
FIRES = [f"smoke and fire in the {place}" for place in ("kitchen", "hall", "attic", "shed", "barn")]
PASTED = f"Mo: {QUESTION}\nDesk: {FIRES[0]}\n\nwhat do I tell him?"


class KnowsHeads(FakeEmbedder):
    """Gives some texts the vector of a head, and others the one that its parent gives."""

    def __init__(self, texts: Collection[str], head: Sequence[float]) -> None:
        super().__init__()
        self._texts, length = texts, hypot(*head)
        self._known = [value / length for value in head]

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        vectors = await super().embed(texts, deadline=deadline)
        given = zip(texts, vectors, strict=True)
        return [self._known if text in self._texts else vector for text, vector in given]


@pytest.fixture
def desk() -> FakeTenant:
    thanks = [-value for value in shipped_chat_weights().asks.vector]
    desk = FakeTenant(embedder=KnowsHeads((THANKS,), thanks))
    desk.configure(embedding={"model": shipped_chat_weights().embedding_model})
    return desk


async def test_a_number_of_another_message_is_read_and_not_kept(desk: FakeTenant) -> None:
    words = " ".join(["and so on"] * 15)
    said = [{"who": "customer", "text": f"{words} 10045 {words}"}, *CHAT_TURNS[1:2]]
    asked = await ask(desk, "Where is it?", turns=[*said, {"who": "customer", "text": "?"}])
    assert asked.plan.basis.question.said.count("10045") == 1
    assert "10045" in asked.plan.basis.reading.caller.question


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        ({}, ": 7 days."),
        ({"at": "2026-03-16T23:30:00-05:00"}, "3/14/2026 to today, 3/16/2026: 2 days."),
    ],
    ids=["by the clock", "by the message"],
)
async def test_a_date_that_the_customer_said_earlier_is_counted(
    desk: FakeTenant, at: dict[str, str], shown: str
) -> None:
    desk = desk.with_documents(document(content="Retail refills are payable within 30 days of the charge."))
    charged = "2026-03-14" if at else (desk.clock.now().date() - timedelta(days=7)).isoformat()
    said = [
        {"who": "customer", "text": f"I was charged {charged}"},
        {"who": "agent", "text": "I see."},
        {"who": "customer", "text": f"{QUESTION} Today?", **at},
    ]
    asked = await ask(desk, "", turns=said)
    assert shown in asked.text
    assert asked.kept.written.isoformat() == at.get("at", asked.kept.asked_at.isoformat())


@pytest.mark.parametrize(
    ("at", "shown"),
    [("2026-03-16T02:00:00Z", "3/15/2026: 1 day"), ("2026-03-16T02:00:00+01:00", "3/16/2026: 2 days")],
)
def test_the_day_of_a_message_is_of_its_zone_or_else_of_the_tenant_s(
    desk: FakeTenant, at: str, shown: str
) -> None:
    power = {"pause_at": "20:00", "resume_at": "07:00", "time_zone": "America/New_York"}
    desk.config = TenantConfig.model_validate(desk.config.model_dump() | {"power": power})
    lines = ["A charge is refunded within 180 days."]
    counted = desk.services.counted_days("charged 3/14", lines, at=datetime.fromisoformat(at))
    assert counted == (f"3/14/2026 to today, {shown}",)


def with_fires(desk: FakeTenant) -> None:
    flags = [{"name": "fire", "text": "Leave.", "call": "911", "examples": FIRES}]
    desk.config = TenantConfig.model_validate(desk.config.model_dump() | {"red_flags": flags})


async def test_a_pasted_chat_is_one_message_whose_reading_by_the_model_is_waited_for() -> None:
    desk, found = FakeTenant(model=WRITING_MODEL).with_documents(document()), "Refills by transfer"
    with_fires(desk)
    desk.generator = ReadsWritesChecks(read=reading(queries=[found]))
    asked = await ask(desk, PASTED)
    assert asked.kept.question == PASTED
    assert [flag.name for flag in asked.started.red_flags] == ["fire"]  # whoever said it
    assert desk.search.queries[-1].text == found
    for request in desk.generator.requests[:2]:  # the reading, then the answer
        assert " ".join(PASTED.split()) in request.messages[-1].content


async def test_red_flags_are_read_in_the_customers_turns_alone(desk: FakeTenant) -> None:
    with_fires(desk)
    fire = {"who": "agent", "text": FIRES[0]}
    assert (await ask(desk, turns=[*CHAT_TURNS, fire], question="")).started.red_flags == ()
    said = {"who": "customer", "text": f"{FIRES[0]}. {FIRES[1]}"}
    assert (await ask(desk, turns=[said, *CHAT_TURNS], question="")).started.red_flags != ()


async def test_thanks_are_not_searched_and_end_with_nothing_to_answer(desk: FakeTenant) -> None:
    thanked = [*CHAT_TURNS, {"who": "agent", "text": "On day 68."}, {"who": "customer", "text": THANKS}]
    for asked in (await ask(desk, THANKS), await ask(desk, "", turns=thanked)):
        assert asked.sources.sources == ()
        assert (asked.done.asks, asked.done.finish_reason) == (False, FinishReason.NO_EVIDENCE)
        assert (asked.text, asked.done.reason) == (
            "",
            "The message thanks or greets: there is nothing to answer.",
        )
    for before in (CHAT_TURNS, [*CHAT_TURNS, {"who": "agent", "text": "By mail or at a store?"}]):
        open_still = await ask(desk, "", turns=[*before, {"who": "customer", "text": THANKS}])
        assert open_still.done.asks
        assert open_still.sources.sources


TRANSFER = document(
    "transfer",
    "Transfers to another pharmacy take one business day. Transfers need the old label.",
    title="Transfer out",
)
BY_TRANSFER = "How long do transfers to another pharmacy take?"
BY_MAIL, FORM = "And by mail?", "And does it need a label form?"
LEANING = (BY_MAIL, FORM, "What do I tell him?")


def made(*, writes: bool = False) -> FakeTenant:
    embedder = KnowsHeads(LEANING, shipped_reading_weights().leans.vector)
    tenant = FakeTenant(embedder=embedder, model=WRITING_MODEL if writes else QUOTING_MODEL)
    tenant.configure(embedding={"model": shipped_reading_weights().embedding_model})
    return tenant.with_documents(document(), TRANSFER)


async def asked_after(tenant: FakeTenant, question: str) -> Asked:
    first = await ask(tenant)
    return await ask(tenant, question, conversation_id=first.conversation_id)


@pytest.mark.parametrize("question", LEANING)
async def test_without_a_model_it_is_to_be_asked_in_full_and_nothing_is_searched(question: str) -> None:
    tenant = made()
    second = await asked_after(tenant, question)
    assert [query.text for query in tenant.search.queries] == [QUESTION]
    assert (second.text, second.sources.sources) == ("", ())
    assert second.done.finish_reason is FinishReason.NO_EVIDENCE
    assert second.done.reason == (
        "This question makes no sense without the one before it. No model has read the two together. "
        "Ask it in full."
    )
    assert second.kept.reading is not None
    assert (second.kept.question, second.kept.reading.leans) == (question, True)
    assert (second.kept.is_unanswered, second.kept.is_for_desk) == (True, False)


@pytest.mark.parametrize("before", [QUESTION, None])
async def test_a_question_that_makes_sense_or_is_the_first_is_searched(before: str | None) -> None:
    tenant = made()
    asked = await asked_after(tenant, BY_TRANSFER) if before else await ask(tenant, BY_MAIL)
    assert tenant.search.queries[-1].text == asked.kept.question
    assert asked.kept.reading is not None
    assert not asked.kept.reading.leans


async def test_a_model_reads_it_with_the_conversation_and_writes_its_search() -> None:
    tenant = made(writes=True)
    tenant.generator = ReadsWritesChecks(read=reading(queries=[BY_TRANSFER]))
    second = await asked_after(tenant, BY_MAIL)
    assert isinstance(second.plan, Written)
    assert second.plan.widens
    assert [query.text for query in tenant.search.queries] == [QUESTION, BY_MAIL, BY_TRANSFER]
    assert second.names[:2] == ["started", "sources"]  # no preview of its own words
    told = tenant.generator.requests[-1].messages[-1].content
    assert told.index("Transfers need the old label.") < told.index(f"The agent asked before: {QUESTION}")


async def test_where_the_model_fails_no_section_takes_its_place() -> None:
    tenant = made(writes=True)
    down = GenerationUnavailableError("down")
    tenant.generator = ReadsWritesChecks(read=down, text=down)
    second = await asked_after(tenant, BY_MAIL)
    assert (second.text, second.done.finish_reason) == ("", FinishReason.SOURCES_ONLY)


VOCABULARY = Vocabulary(language("en"), glossary={"scrip": "prescription"})
CHAT = (
    "Hello, hope you are well today. My name is Jo and I have been a member for many years with my husband. "
    "We were on holiday in June and it rained all of the time, which was a pity. "
    "My copayment for the inhaler doubled last week. "
    "Can you tell me how long the formulary exception takes? "
    "I always liked the people there. My son says so as well, and he is right. "
    "Thank you so much for all of your help, kind regards, have a lovely evening."
)


def read(message: str) -> tuple[str, ...]:
    return questions_of(message, vocabulary=VOCABULARY)


def test_of_a_long_message_the_question_and_the_most_specific_sentences_are_kept_in_order() -> None:
    [kept] = read(CHAT)
    assert "Can you tell me how long the formulary exception takes?" in kept
    assert kept.index("copayment") < kept.index("formulary")
    assert "My name is Jo" not in kept
    assert len(kept.split()) < len(CHAT.split())


REFILL, SIGNED = "How long does a refill take?", "Who signs the transfer form?"


@pytest.mark.parametrize(
    ("message", "questions"),
    [
        (f"{REFILL} {SIGNED}", (REFILL, SIGNED)),
        (f"{REFILL} She asked twice. {SIGNED}", (REFILL, f"She asked twice. {SIGNED}")),
        (f"{REFILL} {SIGNED} Thank you.", (REFILL, f"{SIGNED} Thank you.")),
    ],
)
def test_a_sentence_belongs_to_the_first_question_mark_after_it(
    message: str, questions: tuple[str, ...]
) -> None:
    assert read(message) == questions


@pytest.mark.parametrize(
    "message",
    [
        REFILL,
        "How long does a refill take, and who signs the transfer form?",
        f"Is it there? {REFILL}",
        "?",
        "\U0001f600",
    ],
)
def test_one_question_stays_one_in_the_agent_s_words(message: str) -> None:
    assert read(message) == (message,)


def heads(*, embedding_model: str = "another-model") -> Heads:
    return Heads(VOCABULARY, embedding_model=embedding_model)


def test_the_reading_of_a_record_from_before_opens_whoever_made_it() -> None:
    kept = Reading(questions=(REFILL,)).model_dump(mode="json")
    before = {"made_by": "model", "search_text": REFILL, "kind": "rule", "ids": ["79"]}
    assert Reading.model_validate(kept | before).made_by == "model"
