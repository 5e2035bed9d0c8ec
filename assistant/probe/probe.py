"""One probe: signs a token, asks a question, follows the answer to its end, and reports the outcome."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

import httpx
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from assistant.answer.events import Done, Problem
from assistant.answer.text_end import LATE, OVERDUE
from assistant.client import AssistantClient, Patience, Question, RefusedByServiceError
from assistant.domain import errors
from assistant.domain.answers import FinishReason
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.identity import Role
from assistant.process.aws import aws_call, open_client, signed_token
from assistant.process.settings import ProbeSettings
from assistant.tenant import deployed_names

_TOKEN_LIFETIME_S = 300
_MAX_TOKENS = 32
"""Enough to see the model write. When it is too few for a sentence, the answer is quoted."""
_PARAMETER_TIMEOUT_S = 15.0
_MODEL_FAILED = frozenset(
    {
        errors.GenerationUnavailableError.code,
        errors.GenerationInterruptedError.code,
        errors.OverloadedError.code,
        errors.DeadlineExceededError.code,
        LATE.code,
        OVERDUE.code,
    }
)
"""Values of ``done.fallback`` for a failed generation endpoint. The others are failed checks of a text: the
model answered."""


class Outcome(StrEnum):
    WORKING = "working"
    DEGRADED = "degraded"
    """The path works, but the model failed and quotes replaced its text, or the knowledge base has no answer
    to the probe's question."""
    PAUSED = "paused"
    """The path works as far as the service, whose endpoints are paused: nothing is wrong."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """``reason`` is a finish reason or the code of an error, never the text of a question or answer."""

    outcome: Outcome
    reason: str
    duration_ms: float


async def probe_once(settings: ProbeSettings) -> ProbeResult:
    """Ask the question and follow its answer to the end. A failure is a result, not an error."""
    clock = SystemClock()
    began_s = clock.monotonic_s()
    try:
        async with asyncio.timeout(settings.deadline_s):
            outcome, reason = outcome_of(await _last_event(settings, clock))
    except RefusedByServiceError as error:
        outcome, reason = outcome_of(error.problem)
    except errors.AssistantError as error:
        outcome, reason = Outcome.FAILED, error.code
    except TimeoutError:
        outcome, reason = Outcome.FAILED, errors.DeadlineExceededError.code
    duration_ms = (clock.monotonic_s() - began_s) * 1000
    return ProbeResult(outcome=outcome, reason=reason, duration_ms=duration_ms)


def outcome_of(last: Done | Problem) -> tuple[Outcome, str]:
    """Return the outcome and its reason for an answer's last event, or the problem in place of an answer."""
    if isinstance(last, Problem):
        paused = last.code == errors.EndpointPausedError.code
        return (Outcome.PAUSED if paused else Outcome.FAILED), last.code
    code = last.fallback or (last.reason if last.finish_reason is FinishReason.SOURCES_ONLY else None)
    if code == errors.EndpointPausedError.code:
        return Outcome.PAUSED, errors.EndpointPausedError.code
    if last.citations and code not in _MODEL_FAILED:
        return Outcome.WORKING, last.finish_reason.value
    return Outcome.DEGRADED, code or last.finish_reason.value


def write_metrics(result: ProbeResult, *, tenant: str) -> None:
    """Write log and metrics as one line of CloudWatch's embedded metric format to stdout.

    Lambda forwards stdout to CloudWatch Logs, so the VPC needs no endpoint for metrics.
    """
    metrics = EphemeralMetrics(namespace=deployed_names.NAMESPACE)
    metrics.add_dimension(deployed_names.PROBE_DIMENSION, tenant)
    counted = (
        (deployed_names.PROBE_FAILED, Outcome.FAILED),
        (deployed_names.PROBE_DEGRADED, Outcome.DEGRADED),
        (deployed_names.PROBE_PAUSED, Outcome.PAUSED),
    )
    for name, outcome in counted:
        metrics.add_metric(name, unit=MetricUnit.Count, value=float(result.outcome is outcome))
    metrics.add_metric(deployed_names.PROBE_DURATION, unit=MetricUnit.Milliseconds, value=result.duration_ms)
    metrics.add_metadata("outcome", result.outcome.value)
    metrics.add_metadata("reason", result.reason)
    metrics.flush_metrics()


async def _last_event(settings: ProbeSettings, clock: Clock) -> Done | Problem:
    token, tls = await _token(settings, clock), await _tls_context(settings)
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
    """Return a token of the probe, signed by KMS. Raises DependencyError."""
    now = int(clock.now().timestamp())
    claims = {
        "iss": settings.issuer,
        "aud": settings.audience,
        "iat": now,
        "exp": now + _TOKEN_LIFETIME_S,
        "sub": deployed_names.PROBE_SUBJECT,
        "tenant": settings.tenant,
        "roles": [Role.AGENT.value],
        "labels": [],
    }
    async with open_client("kms", region=settings.region, endpoint_url=settings.aws_endpoint_url) as kms:
        return await signed_token(
            kms, key_id=settings.signing_key_id, kid=deployed_names.PROBE_SUBJECT, claims=claims
        )


async def _tls_context(settings: ProbeSettings) -> ssl.SSLContext:
    """Return the TLS that the settings ask for. Raises ConfigurationError, DependencyError.

    Without a certificate authority of the company, the public ones of httpx are trusted.
    """
    try:
        if settings.certificate_authority is None:
            context = httpx.create_ssl_context(trust_env=False)
        else:
            context = ssl.create_default_context(cadata=settings.certificate_authority)
        if settings.client_certificate_parameter is not None:
            pem = await _client_certificate(settings, settings.client_certificate_parameter)
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # Python loads keys from files only
                file.write(pem)
                file.flush()
                context.load_cert_chain(file.name)
    except ssl.SSLError as error:
        raise errors.ConfigurationError(
            f"A certificate of the probe cannot be read ({error.reason}): give certificates and key in PEM."
        ) from None
    return context


async def _client_certificate(settings: ProbeSettings, name: str) -> str:
    async with (
        open_client("ssm", region=settings.region, endpoint_url=settings.aws_endpoint_url) as ssm,
        aws_call("The parameter of the client certificate", limit_s=_PARAMETER_TIMEOUT_S),
    ):
        answer = await ssm.get_parameter(Name=name, WithDecryption=True)
    return str(answer["Parameter"]["Value"])
