"""Asking and reading, for the tests of the use case."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from assistant.answer.answer import AnswerQuestion
from assistant.answer.events import (
    AnswerEvent,
    Done,
    ElementChanged,
    Problem,
    SentenceEnded,
    Sources,
    Started,
    Token,
)
from assistant.answer.plan import Plan, Written
from assistant.answer.prompt import Prompt
from assistant.answer.request import AnswerRequest
from assistant.answer.section import Quote
from assistant.domain.answers import AnswerRecord
from assistant.domain.clock import Deadline
from assistant.domain.identity import CareContext, Identity
from tests.stage.answering import FakeTenant, agent

QUESTION = "On which day are retail refills payable?"


class Asked:
    """One answer, asked and read to its end."""

    def __init__(self, events: list[AnswerEvent], plan: Plan, tenant: FakeTenant) -> None:
        self.events = events
        self.plan = plan
        self._tenant = tenant

    @property
    def prompt(self) -> Prompt | None:
        return self.plan.prompt if isinstance(self.plan, Written) else None

    @property
    def quote(self) -> Quote:
        """Of a plan for which no model writes."""
        assert not isinstance(self.plan, Written)
        return self.plan.quote

    @property
    def answer_id(self) -> str:
        return self.plan.basis.question.ids.answer_id

    @property
    def conversation_id(self) -> str:
        return self.plan.basis.question.ids.conversation_id

    @property
    def names(self) -> list[str]:
        return [event.event for event in self.events]

    @property
    def started(self) -> Started:
        assert isinstance(self.events[0], Started)
        return self.events[0]

    @property
    def sources(self) -> Sources:
        assert isinstance(self.events[1], Sources)
        return self.events[1]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Token))

    @property
    def sentences(self) -> list[SentenceEnded]:
        return [event for event in self.events if isinstance(event, SentenceEnded)]

    @property
    def elements(self) -> list[ElementChanged]:
        return [event for event in self.events if isinstance(event, ElementChanged)]

    @property
    def done(self) -> Done:
        assert isinstance(self.events[-1], Done)
        return self.events[-1]

    @property
    def problem(self) -> Problem:
        assert isinstance(self.events[-1], Problem)
        return self.events[-1]

    @property
    def record(self) -> AnswerRecord:
        """As its reader sees it; ``kept`` is what the store has."""
        return self._tenant.shown(self.kept)

    @property
    def kept(self) -> AnswerRecord:
        return self._tenant.records.answers[self.answer_id]


def deadline(tenant: FakeTenant, *, seconds: float = 30.0) -> Deadline:
    return Deadline.after(seconds, clock=tenant.clock)


async def prepare(
    tenant: FakeTenant,
    question: str = QUESTION,
    *,
    identity: Identity | None = None,
    seconds: float = 30.0,
    context: CareContext | None = None,
    **request: object,
) -> tuple[AnswerQuestion, Plan]:
    use_case = AnswerQuestion(tenant.services)
    asking = AnswerRequest.model_validate({"question": question, **request})
    plan = await use_case.prepare(
        asking,
        identity=identity or agent(),
        deadline=deadline(tenant, seconds=seconds),
        context=context,
    )
    return use_case, plan


async def ask(tenant: FakeTenant, question: str = QUESTION, **how: Any) -> Asked:
    """As ``prepare``; read to its end."""
    use_case, plan = await prepare(tenant, question, **how)
    async with aclosing(use_case.stream(plan)) as events:
        return Asked([event async for event in events], plan, tenant)
