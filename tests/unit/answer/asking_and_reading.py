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
from assistant.answer.prepared import PreparedAnswer
from assistant.answer.take import AnswerRequest
from assistant.domain.answers import AnswerRecord
from assistant.domain.clock import Deadline
from assistant.domain.identity import CareContext, Identity
from tests.fakes.answering import FakeTenant, agent

QUESTION = "On which day are retail refills payable?"


class Asked:
    """One answer, asked and read to its end."""

    def __init__(self, events: list[AnswerEvent], prepared: PreparedAnswer, tenant: FakeTenant) -> None:
        self.events = events
        self.prepared = prepared
        self._tenant = tenant

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
        return self._tenant.records.answers[self.prepared.answer_id]


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
) -> tuple[AnswerQuestion, PreparedAnswer]:
    use_case = AnswerQuestion(tenant.services)
    asking = AnswerRequest.model_validate({"question": question, **request})
    prepared = await use_case.prepare(
        asking,
        identity=identity or agent(),
        deadline=deadline(tenant, seconds=seconds),
        context=context,
    )
    return use_case, prepared


async def ask(tenant: FakeTenant, question: str = QUESTION, **how: Any) -> Asked:
    """As ``prepare``; read to its end."""
    use_case, prepared = await prepare(tenant, question, **how)
    async with aclosing(use_case.stream(prepared)) as events:
        return Asked([event async for event in events], prepared, tenant)
