"""A reply to a patient: written from the lines of an answer, checked against them, and kept."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from assistant.answer.answer import AnswerQuestion
from assistant.answer.events import AnswerEvent, Done, Started, Token
from assistant.answer.prompt import load_prompt
from assistant.answer.stored import AppendToAnswer
from assistant.domain.answers import Outcome, Sent
from assistant.domain.errors import (
    AssistantError,
    ConflictError,
    GenerationUnavailableError,
    InvalidRequestError,
    NotFoundError,
    WithdrawnError,
)
from assistant.options.reply.prompt import PACKAGE
from assistant.options.reply.write import ReplyRequest, WriteReply
from tests.fakes.answering import FakeTenant, JudgesAndWrites, ScriptedGenerator, Step, agent, verdicts
from tests.unit.answer.asking_and_reading import QUESTION, ask, deadline

RELEASED = {
    "reply/1": "94b1c3b0889988e4d40e9f2edb3774194506d46d4140560e889dfab498b46a06",
    "reply_check/1": "db0eeac592e3e6ce88e2a23870372b82c299250bfe9f74d9dcdb3ed1d9dd442a",
}
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
    write = WriteReply(services, AnswerQuestion(services).records)
    request = ReplyRequest(reply_to=answer_id, conversation_id=answer_id, **body)
    return write, await write.prepare(request, identity=agent(who), deadline=deadline(tenant))


@pytest.fixture
def tenant() -> FakeTenant:
    return FakeTenant.writing()


def test_a_released_prompt_never_changes() -> None:
    assert {prompt: load_prompt(prompt, PACKAGE).sha256 for prompt in RELEASED} == RELEASED


@pytest.mark.parametrize("prompt", RELEASED)
def test_a_prompt_has_the_mark_by_which_no_capture_keeps_its_words(prompt: str) -> None:
    assert "<lines>" in "".join(load_prompt(prompt, PACKAGE).user)


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
    assert record.prompt_id == "reply/1"
    assert not record.is_for_desk


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
