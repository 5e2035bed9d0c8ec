"""A reply to a patient: written from the lines of an answer, checked against them, and kept."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from assistant.answer.answer import AnswerQuestion
from assistant.answer.events import AnswerEvent, Done, Started, Token
from assistant.answer.prompt import load_prompt
from assistant.domain.answers import ChatTurn, Outcome, QuotedUnit
from assistant.domain.errors import GenerationUnavailableError, WithdrawnError
from assistant.options.reply.prompt import PACKAGE, read_lines
from assistant.options.reply.write import ReplyRequest, WriteReply, foreign_in
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import language
from assistant.text.values import Values
from tests.stage.answering import (
    FakeSearch,
    FakeTenant,
    JudgesAndWrites,
    ScriptedGenerator,
    Step,
    agent,
    document,
    verdicts,
)
from tests.unit.answer.asking_and_reading import QUESTION, ask, deadline

RELEASED = {"reply/4": "a29d3acd3402232a3608619cec52ccdc6018ecfb6076ef712c250f6f1886f3f1"}
CUT = "On day 23 of 30 retail refills are payable"
GOOD = "You can refill on day 23 of 30."
HELD = verdicts((1, "held", 1, ""))


async def reply(
    tenant: FakeTenant,
    answer_id: str,
    *texts: str | Exception,
    who: str = "ana",
    verdict: Step = HELD,
    **body: Any,
) -> list[AnswerEvent]:
    tenant.generator = JudgesAndWrites(*texts, verdicts=[verdict])
    write, plan = await ask_for(tenant, answer_id, who=who, **body)
    async with aclosing(write.stream(plan)) as events:
        return [event async for event in events]


async def ask_for(tenant: FakeTenant, answer_id: str, *, who: str = "ana", **body: Any) -> tuple[Any, Any]:
    services = tenant.services
    write = WriteReply(services, AnswerQuestion(services))
    request = ReplyRequest(reply_to=answer_id, conversation_id=answer_id, **body)
    return write, await write.prepare(request, identity=agent(who), deadline=deadline(tenant))


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant.writing()
    tenant.use_model(checks=True)
    return tenant


def test_a_released_prompt_never_changes() -> None:
    assert {prompt: load_prompt(prompt, PACKAGE).sha256 for prompt in RELEASED} == RELEASED


@pytest.mark.parametrize(("prompt", "package"), [("reply/4", PACKAGE), ("check/2", "assistant.answer")])
def test_a_prompt_has_the_mark_by_which_no_capture_keeps_its_words(prompt: str, package: str) -> None:
    assert "<lines>" in "".join(load_prompt(prompt, package).user)


async def test_a_reply_is_written_from_the_cited_lines_and_kept(tenant: FakeTenant) -> None:
    answer_id = (await ask(tenant)).answer_id
    events = await reply(
        tenant, answer_id, "You can refill ", "on day 23 of 30.", style="shorter", draft="Old."
    )
    started, done = events[0], events[-1]
    assert isinstance(started, Started)
    assert isinstance(done, Done)
    assert "".join(event.text for event in events if isinstance(event, Token)) == GOOD
    assert done.checks == ()
    request, _ = tenant.generator.requests
    told = request.messages[-1].content
    assert "Retail refills are payable on day 23 of 30." in told
    assert QUESTION in told
    assert "<draft>\nOld.\n</draft>" in told
    assert "fewer words" in told
    record = tenant.records.answers[started.answer_id]
    assert (record.reply_to, record.conversation_id, record.text) == (answer_id, answer_id, GOOD)
    assert record.prompt_id == "reply/4"
    assert not record.is_for_desk


async def test_a_reply_reads_of_a_long_document_the_cited_section_or_else_the_line(
    tenant: FakeTenant,
) -> None:
    day, rest = "Retail refills are payable on day 23 of 30.", "It says nothing of this matter at all. " * 40
    content = f"## Day\n\n{day} Call the plan.\n\n## More\n\n{rest}"
    tenant.search = FakeSearch([document(content=content)])
    first = tenant.search.documents[0].passages[0].units[0]
    unit = QuotedUnit(
        document_id="refill", content_hash="hash-of-refill", span=(first.span.start, first.span.end)
    )
    record = tenant.records.answers[(await ask(tenant)).answer_id]
    told: dict[int, str] = {}
    for tokens in (900, 30):
        lines = await read_lines(
            record, [unit], texts=tenant.texts, labels=frozenset(), context_tokens=tokens
        )
        told[tokens] = " ".join(line.text for line in lines or ())
    assert told == {900: f"{day} Call the plan.", 30: day}


async def test_a_reply_rests_on_nothing_that_was_withdrawn(tenant: FakeTenant) -> None:
    answer_id = (await ask(tenant)).answer_id
    tenant.withdrawn.add("refill")
    with pytest.raises(WithdrawnError):
        await ask_for(tenant, answer_id)


async def test_a_model_that_fails_leaves_a_record_that_a_repeat_passes_over(tenant: FakeTenant) -> None:
    answer_id = (await ask(tenant)).answer_id
    with pytest.raises(GenerationUnavailableError):
        await reply(tenant, answer_id, GenerationUnavailableError("down"))
    [record] = [one for one in tenant.records.answers.values() if one.reply_to]
    assert record.outcome is Outcome.DISCONNECTED


def told(tenant: FakeTenant) -> str:
    """Return the prompt of the reply."""
    return tenant.generator.requests[0].messages[-1].content


def turns(*said: str) -> tuple[ChatTurn, ...]:
    return tuple(ChatTurn(who="customer", text=text) for text in said)


async def test_what_only_the_customer_said_stands_in_the_prompt(tenant: FakeTenant) -> None:
    answer_id = (await ask(tenant)).answer_id
    await reply(tenant, answer_id, GOOD, turns=turns("I am on the Cedar plan.", QUESTION))
    assert "I am on the Cedar plan." in told(tenant)


async def test_where_nothing_answers_a_holding_reply_is_written(tenant: FakeTenant) -> None:
    tenant.generator = ScriptedGenerator("The documents do not answer this question.")
    answer_id = (await ask(tenant)).answer_id
    assert tenant.records.answers[answer_id].sentences == ()
    events = await reply(
        tenant, answer_id, "I will ask the pharmacist.", verdict=verdicts((1, "held", None, ""))
    )
    assert isinstance(events[-1], Done)
    assert events[-1].checks == ()
    assert "<answer>\nThe documents do not answer this question.\n</answer>" in told(tenant)


@pytest.mark.parametrize(("languages", "written_in"), [(("en",), "en"), (("en", "es"), "es")])
async def test_a_reply_is_in_the_customers_language_where_the_file_lists_it(
    tenant: FakeTenant, languages: tuple[str, ...], written_in: str
) -> None:
    tenant.configure(answers={"reply_languages": languages})
    answer_id = (await ask(tenant)).answer_id
    spanish = turns("Hola, ¿en qué día puedo volver a recoger mis medicamentos en la farmacia?")
    started, *_ = await reply(tenant, answer_id, GOOD, turns=spanish)
    assert isinstance(started, Started)
    assert started.language == written_in
    assert f"ISO 639-1 code: {written_in}." in tenant.generator.requests[0].messages[0].content


async def test_an_emergency_is_told_and_among_the_lines_of_the_check(tenant: FakeTenant) -> None:
    flag = {
        "name": "fire",
        "examples": [f"fire in room {n}" for n in range(5)],
        "text": "Leave the house.",
        "call": "911",
    }
    tenant.config = TenantConfig.model_validate(tenant.config.model_dump() | {"red_flags": [flag]})
    answer_id = (await ask(tenant)).answer_id
    record = tenant.records.answers[answer_id]
    tenant.records.answers[answer_id] = record.model_copy(update={"red_flags": ("fire",)})
    await reply(tenant, answer_id, "Leave the house and call 911.")
    assert "This may be an emergency: Leave the house. To call: 911." in told(tenant)
    assert isinstance(tenant.generator, JudgesAndWrites)
    assert "Leave the house. To call: 911" in tenant.generator.checked[-1]


async def test_a_cut_answer_does_not_stand_in_the_prompt(tenant: FakeTenant) -> None:
    tenant.generator = ScriptedGenerator(f"{CUT} [1.1]. And by", finish_reason="length")
    answer_id = (await ask(tenant)).answer_id
    assert tenant.records.answers[answer_id].text.startswith(CUT)
    await reply(tenant, answer_id, GOOD)
    assert CUT not in told(tenant)


LINE = "The desk ships a replacement within 14 days. Keep the item for 7 days, not longer."
SAID = "Rosa, order 7714402, came broken on 11/30. when does the replacement ship"

CLOSINGS = (
    "Get well soon, Ines",
    "Warmly, Anna from the care line",
    "Yours, Dr. Weiss's office",
    "Kind regards, Teresa from the diabetes line",
)


def faults(text: str, *, line: str = LINE) -> list[tuple[str, tuple[str, ...]]]:
    held = Values.joined([Values.of(part, language("en")) for part in (line, SAID)])
    return [(check.kind, check.values) for check in foreign_in(text, held, but={"911"})]


@pytest.mark.parametrize(
    "text",
    [
        "Rosa, a new one ships within two weeks.",
        "Keep what came for a week; the new one is there in 14 days.",
        "Hi Dana,\n\na new one ships within 14 days.\n\nBest regards,\nSam Oduya",
        "Dear Ms. Oduya, a new one ships within 14 days. Kind regards, Sam",
        "Good morning Ngozi! It ships within 14 days.\nThanks\nYour Support Team",
        "Hello, it ships within 14 days. Best, Ngozi",
        "Hey there Ngozi, it ships within 14 days.",
        "Thank you for writing, Ngozi. It ships within 14 days.",
        "Hello Xiomara and family,\nit ships within 14 days.\n\nTake care!\nSunniva",
        "Call 911 now.",
        *(f"{opening} it ships within 14 days." for opening in ("Gladly,", "Outlook:")),
        *(f"It ships within 14 days.{break_}{closing}" for closing in CLOSINGS for break_ in ("\n", "\n\n")),
    ],
)
def test_a_right_reply_is_not_stopped(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Rosa, a new one ships within three weeks.", "3 week"),
        ("It ships in 14 months.", "14 month"),
        ("On order 7714420 a new one ships within 14 days.", "7714420"),
        ("Hi, Rita Kowalski ships a new one within 14 days.", "Kowalski"),
        ("It ships within 14 days, says Dr. Kowalski.", "Kowalski"),
        ("Dear Sam, it ships within 14 days. Ask Kowalski. Regards, Sam", "Kowalski"),
        ("It ships within 14 days, and 7 days more, so 22 days.", "22 day"),
        ("A new one ships within 14 days, by January 2.", "1/2"),
        ("Take 911 mg.", "911 mg"),
    ],
)
def test_what_nothing_holds_is_named(text: str, value: str) -> None:
    (kind, values), *_ = faults(text)
    assert (kind, value in values) == ("not_held", True)


def test_the_number_of_a_step_holds_no_value() -> None:
    line = "5. The desk ships a new one after three photos."
    assert faults("We ship a new one after 5 photos.", line=line) == [("not_held", ("5",))]
    assert faults("We ship a new one after 3 photos.", line=line) == []
