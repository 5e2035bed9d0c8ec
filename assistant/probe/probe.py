"""One probe: a token, a question, its events to the last."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from assistant.answering.events import Done, Problem
from assistant.aws.clients import open_client
from assistant.aws.parameters import signed_token
from assistant.client import AssistantClient, Patience, Question, RefusedByServiceError
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import AssistantError, DeadlineExceededError
from assistant.domain.identity import Role
from assistant.probe.client_tls import open_tls
from assistant.probe.outcome import Outcome, ProbeResult, outcome_of
from assistant.settings.functions import PROBE_SUBJECT, ProbeSettings

_TOKEN_LIFETIME_S = 300
_MAX_TOKENS = 32
"""Enough to see the model write; where it is not enough for a sentence, quotes take its place."""


async def probe_once(settings: ProbeSettings, *, clock: Clock | None = None) -> ProbeResult:
    """Ask the question and follow its answer to the end. What fails on the way is the result."""
    clock = clock or SystemClock()
    began_s = clock.monotonic_s()
    try:
        async with asyncio.timeout(settings.deadline_s):
            outcome, reason = outcome_of(await _last_event(settings, clock))
    except RefusedByServiceError as error:
        outcome, reason = outcome_of(error.problem)
    except AssistantError as error:
        outcome, reason = Outcome.FAILED, error.code
    except TimeoutError:
        outcome, reason = Outcome.FAILED, DeadlineExceededError.code
    duration_ms = (clock.monotonic_s() - began_s) * 1000
    return ProbeResult(outcome=outcome, reason=reason, duration_ms=duration_ms)


async def _last_event(settings: ProbeSettings, clock: Clock) -> Done | Problem:
    token, tls = await _token(settings, clock), await open_tls(settings)
    question = Question(question=settings.question, max_tokens=_MAX_TOKENS, resume_window_s=0)
    async with (
        AssistantClient(settings.service_url, token=token, patience=Patience(attempts=1), tls=tls) as client,
        aclosing(client.stream(question)) as events,
    ):
        async for event in events:
            if isinstance(event, Done | Problem):
                return event
    raise AssertionError("a stream ends with its last event, or raises")


async def _token(settings: ProbeSettings, clock: Clock) -> str:
    async with open_client("kms", region=settings.region, endpoint_url=settings.aws_endpoint_url) as kms:
        return await signed_token(
            kms, key_id=settings.signing_key_id, kid=PROBE_SUBJECT, claims=_claims(settings, clock)
        )


def _claims(settings: ProbeSettings, clock: Clock) -> Mapping[str, Any]:
    now = int(clock.now().timestamp())
    return {
        "iss": settings.issuer,
        "aud": settings.audience,
        "iat": now,
        "exp": now + _TOKEN_LIFETIME_S,
        "sub": PROBE_SUBJECT,
        "tenant": settings.tenant,
        "roles": [Role.AGENT.value],
        "labels": [],
    }
