"""A model reads the conversation beside the search, and checks what was shown, after the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from assistant.answer.events import Checked, Done, Preview, RedFlags
from assistant.domain.clock import Deadline
from assistant.domain.errors import GenerationUnavailableError
from assistant.service.streams import whole_answer
from assistant.stores.ports import GenerationRequest, GenerationStream
from tests.fakes.answering import FakeTenant, Gate, ScriptedGenerator, Step, document, verdicts
from tests.unit.answer.asking_and_reading import QUESTION, ask, prepare

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


async def test_an_unknown_emergency_raises_nothing(tenant: FakeTenant) -> None:
    tenant.configure(red_flags=[FIRE])
    tenant.generator = ReadsWritesChecks(read=reading(emergency="flood"))
    asked = await ask(tenant)
    assert "red_flags" not in asked.names


async def test_a_tenant_may_have_no_reading(tenant: FakeTenant) -> None:
    tenant.configure(generation={"reads": False}, red_flags=[FIRE])
    tenant.generator = ReadsWritesChecks()
    await ask(tenant, "", turns=TURNS)
    assert tenant.generator.asked == ["You help"]


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


async def test_a_model_whose_checks_are_not_believed_is_not_asked(tenant: FakeTenant) -> None:
    tenant.generator = ReadsWritesChecks()
    asked = await ask(tenant)
    assert tenant.generator.asked == ["You help"]
    assert not asked.done.check_follows
