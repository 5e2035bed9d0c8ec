"""Who may read an answer, and who may add to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from assistant.domain.answers import Act, AgentAct, AnswerRecord, Sent, Verdict, VerdictLabel
from assistant.domain.errors import InvalidRequestError, NotFoundError, RecordsUnavailableError
from assistant.domain.identity import Identity, Role
from assistant.service.stored import AppendToAnswer, ReadAnswers
from tests.contracts import samples
from tests.stage.answering import FakeTenant, agent
from tests.unit.answer.asking_and_reading import ask

GOOD = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
TAKEN = Act(act_id="t1", kind=AgentAct.POSSIBLY_TAKEN)
SENT = Sent(send_id="s1", text="Please come on day 23.")
AUDITOR = agent("ada", Role.AUDITOR)
BEN = agent("ben")


async def asked_by_ana(tenant: FakeTenant) -> AnswerRecord:
    return (await ask(tenant)).record


async def test_what_cannot_be_recorded_is_not_read() -> None:
    tenant = FakeTenant()
    record = await asked_by_ana(tenant)

    async def fail(_entry: object) -> None:
        raise RecordsUnavailableError("down")

    tenant.records.record_access = fail  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(RecordsUnavailableError):
        await ReadAnswers(tenant.services).one(record.answer_id, identity=AUDITOR)


Action = Callable[[FakeTenant, str, Identity], Awaitable[object]]


ACTIONS: dict[str, Action] = {
    "read": lambda tenant, name, who: ReadAnswers(tenant.services).one(name, identity=who),
    "list": lambda tenant, name, who: ReadAnswers(tenant.services).conversation(name, identity=who),
    "mark": lambda tenant, name, who: AppendToAnswer(tenant.services).verdict(name, GOOD, identity=who),
    "send": lambda tenant, name, who: AppendToAnswer(tenant.services).sent(name, SENT, identity=who),
    "act": lambda tenant, name, who: AppendToAnswer(tenant.services).act(name, TAKEN, identity=who),
}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        *((name, BEN) for name in ACTIONS),
        ("read", agent("kim", Role.KNOWLEDGE_OWNER)),
        *((name, AUDITOR) for name in ("mark", "send", "act")),
    ],
)
async def test_what_its_owner_may_do_is_for_others_as_if_it_never_was(name: str, other: Identity) -> None:
    action = ACTIONS[name]
    tenant = FakeTenant()
    await tenant.records.put_answer(samples.answer("both", conversation_id="both"))
    await action(tenant, "both", agent("ana"))
    messages: list[str] = []
    looked_up: list[int] = []
    for subject_id in ("both", "never-was"):
        before = tenant.records.reads
        with pytest.raises(NotFoundError) as raised:
            await action(tenant, subject_id, other)
        messages.append(raised.value.message)
        looked_up.append(tenant.records.reads - before)
    assert messages[0] == messages[1]
    assert looked_up == [1, 1]


async def test_a_wrong_citation_must_be_one_of_the_answer_s_sources() -> None:
    tenant = FakeTenant()
    record = await asked_by_ana(tenant)
    append = AppendToAnswer(tenant.services)
    bad = Verdict(verdict_id="v2", label=VerdictLabel.BAD, wrong_citations=(1, 2))
    with pytest.raises(InvalidRequestError):
        await append.verdict(record.answer_id, bad, identity=agent())
    assert tenant.records.verdicts == []
    await append.verdict(record.answer_id, bad.model_copy(update={"wrong_citations": (1,)}), identity=agent())


@pytest.mark.parametrize(
    "wrong",
    [
        Act(act_id="o1", kind=AgentAct.OPENED_SOURCE, n=2),
        Act(act_id="o1", kind=AgentAct.OPENED_SOURCE),
        Act(act_id="o1", kind=AgentAct.POSSIBLY_PASSED_OVER, n=1),
    ],
)
async def test_an_opened_source_is_one_of_the_answer_s(wrong: Act) -> None:
    tenant = FakeTenant()
    record = await asked_by_ana(tenant)
    append = AppendToAnswer(tenant.services)
    with pytest.raises(InvalidRequestError):
        await append.act(record.answer_id, wrong, identity=agent())
    assert tenant.records.acts == []
    opened = Act(act_id="o1", kind=AgentAct.OPENED_SOURCE, n=1)
    assert (await append.act(record.answer_id, opened, identity=agent())).agent == "ana"


async def test_a_follow_up_s_record_names_the_answer_before_it() -> None:
    tenant = FakeTenant()
    first = await asked_by_ana(tenant)
    second = (await ask(tenant, conversation_id=first.conversation_id)).record
    assert (first.follows, second.follows) == (None, first.answer_id)
