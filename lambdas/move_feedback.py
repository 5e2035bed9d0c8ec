"""Moves signals into the feedback store, by schedule, and erases a patient's words, by an operator's call.

Events: that of the schedule (any fields); ``{"erase_member": "M-12345", "by": "ann"}``, with ``contents`` for
the second of two people.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import structlog
from aws_lambda_powertools.metrics import MetricUnit
from pydantic import BaseModel, Field

from assistant.domain.errors import ForbiddenError, InvalidRequestError, SecondPersonNeededError
from assistant.options.desk.opened import Moving, open_moving
from assistant.options.desk.settings import MovingSettings
from assistant.service.function import Event, FunctionEntry, emit_metric
from assistant.tenant import deployed_names

_log = structlog.get_logger(__name__)


class MoveEvent(BaseModel):
    """The schedule's event, whose fields are ignored, or the order of an operator."""

    erase_member: str | None = Field(default=None, min_length=1, max_length=100)
    """Member number whose words become unreadable. It is not logged."""
    by: str = Field(default="", max_length=100)
    """Who orders it; needed where two people must (profile ``hipaa``). CloudTrail has who invoked the
    function."""
    contents: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Given by the second person: the hash of what would be erased, which the first one's response shows."""


async def run(services: Moving, event: Event) -> dict[str, Any]:
    """Move what is pending and return ``{"rows": 12}``; or erase and return the receipt (fields of
    ``Erased``).

    A refused erasure returns ``{"code": …, "detail": …}``: with ``second_person_needed`` the detail says what
    the second person must call. The age of the oldest pending signal is published after each move, also a
    failed one.
    """
    order = MoveEvent.model_validate(event)
    if order.erase_member is not None:
        try:
            erased = await services.erase(order.erase_member, by=order.by, named=order.contents)
        except (
            SecondPersonNeededError,
            ForbiddenError,
            InvalidRequestError,
        ) as refusal:  # a result for the operator: the function did not fail
            return {"code": refusal.code, "detail": refusal.message}
        _log.info("patient_erased", subject=erased.subject, had_key=erased.had_key, texts=len(erased.texts))
        return asdict(erased)
    settings, clock = services.settings, services.clock
    try:
        return {"rows": await services.move.drain(clock=clock, within_s=settings.within_s)}
    finally:
        age_s = await services.move.oldest_age_s(clock)
        name, service = deployed_names.OLDEST_SIGNAL_AGE, settings.metrics_service
        emit_metric(name, age_s, service=service, unit=MetricUnit.Seconds)


handle = FunctionEntry(MovingSettings, open_moving, run)
"""Handler of the function (``lambdas.move_feedback.handle``)."""
