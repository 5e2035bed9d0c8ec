"""A reply to a patient: written from the lines of an answer, checked against them, and kept."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from assistant.answer.answer import AnswerQuestion
from assistant.answer.events import AnswerEvent, Done, Started, Token
from assistant.answer.prompt import load_prompt
from assistant.domain.answers import ChatTurn, Outcome, QuotedUnit, Sent
from assistant.domain.errors import (
    AssistantError,
    ConflictError,
    GenerationUnavailableError,
    InvalidRequestError,
    NotFoundError,
    WithdrawnError,
)
from assistant.options.reply.prompt import PACKAGE, read_lines
from assistant.options.reply.write import ReplyRequest, WriteReply
from assistant.service.stored import AppendToAnswer
from assistant.tenant.tenant import TenantConfig
from tests.fakes.answering import (
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


async def test_a_reply_reads_the_cited_documents_whole(tenant: FakeTenant) -> None:
    answer_id = (await ask(tenant)).answer_id
    await reply(tenant, answer_id, GOOD)
    told = tenant.generator.requests[0].messages[-1].content
    assert "Send other requests to the Claims Desk." in told


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


async def test_a_value_that_nothing_holds_is_named(tenant: FakeTenant) -> None:
    answer_id = (await ask(tenant)).answer_id
    said = verdicts((1, "held", None, ""), (2, "opposite", 1, "day 25"))
    events = await reply(tenant, answer_id, "Thanks. You can refill on day 25 of 30.", verdict=said)
    done = events[-1]
    assert isinstance(events[0], Started)
    assert isinstance(done, Done)
    [check] = done.checks
    assert (check.kind, check.values, check.start) == ("not_held", ("25",), 8)
    kept = (check.model_copy(update={"id": ""}),)
    assert tenant.records.answers[events[0].answer_id].checks == kept


async def test_a_quoted_answer_has_lines_too(tenant: FakeTenant) -> None:
    tenant.generator = ScriptedGenerator(GenerationUnavailableError("down"))
    answer_id = (await ask(tenant)).answer_id
    *_, done = await reply(tenant, answer_id, GOOD)
    assert isinstance(done, Done)
    assert done.checks == ()


async def test_a_reply_rests_on_nothing_that_was_withdrawn(tenant: FakeTenant) -> None:
    answer_id = (await ask(tenant)).answer_id
    tenant.withdrawn.add("refill")
    with pytest.raises(WithdrawnError):
        await ask_for(tenant, answer_id)


@pytest.mark.parametrize(
    ("who", "error"), [("ben", NotFoundError), ("ana", ConflictError)], ids=["another's", "no model"]
)
async def test_what_is_refused(tenant: FakeTenant, who: str, error: type[AssistantError]) -> None:
    answer_id = (await ask(tenant)).answer_id
    if error is ConflictError:
        tenant.use_model(writes_answers=False)
    with pytest.raises(error):
        await ask_for(tenant, answer_id, who=who)


async def test_a_model_that_fails_leaves_a_record_that_a_repeat_passes_over(tenant: FakeTenant) -> None:
    answer_id = (await ask(tenant)).answer_id
    with pytest.raises(GenerationUnavailableError):
        await reply(tenant, answer_id, GenerationUnavailableError("down"))
    [record] = [one for one in tenant.records.answers.values() if one.reply_to]
    assert record.outcome is Outcome.DISCONNECTED


async def test_what_was_sent_names_its_reply(tenant: FakeTenant) -> None:
    answer_id = (await ask(tenant)).answer_id
    started, *_ = await reply(tenant, answer_id, GOOD)
    assert isinstance(started, Started)
    append = AppendToAnswer(tenant.services)
    sent = Sent(send_id="s1", text=GOOD, reply_id=started.answer_id)
    stored = await append.sent(answer_id, sent, identity=agent())
    assert stored.sent.reply_id == started.answer_id
    with pytest.raises(InvalidRequestError):
        await append.sent(answer_id, Sent(send_id="s2", text="x", reply_id=answer_id), identity=agent())


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
