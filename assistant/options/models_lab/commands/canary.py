"""The canary of a tenant's LLM endpoint: a second variant, which gets a share of the calls; and how it is
judged, by an evaluation before and by the fate of its answers after.

The models stack declares both configurations: that of the served model alone, and that of both variants. A
release moves the endpoint from the first to the second and then gives the canary its share; a rollback goes
back. Nothing else is created or deleted, so an end in the middle leaves one of few states, which the next
command finishes or undoes (docs/decisions/0081).

SageMaker refuses an update of an endpoint that is being updated, so of two releases at once the second is
refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import sqrt
from typing import Any, Literal, get_args

from assistant.answer.check import FAILED_CHECKS
from assistant.domain.answers import AnswerRecord, Outcome, VerdictLabel
from assistant.domain.errors import ConflictError, DeploymentError, NotFoundError
from assistant.evaluation.measures import MEASURES, Estimate, TenantRun, paired
from assistant.options.desk.commands_learn import asked_answers
from assistant.stores.records import StoredRecords
from assistant.tenant.deployed_names import (
    CANARY_ARTIFACT_OUTPUT,
    CANARY_CONFIG_OUTPUT,
    CANARY_VARIANT,
    RELEASER_OUTPUT,
    SERVED_CONFIG_OUTPUT,
    SERVED_VARIANT,
)
from assistant.tenant.manifests import LlmManifest
from assistant.terminal.account import AwsAccount, Deployed

_MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
"""An endpoint's statuses that end by themselves, in which SageMaker refuses an update (``EndpointStatus``,
DescribeEndpoint)."""
_POLL_S = 15.0
LIMIT_S = 4 * 3600.0
"""As long as a deployment of the endpoint may take (``stacks.endpoints``)."""
_JUDGED_PREFIXES = ("written", "raw", "unchanged")
"""Begin the names of ``MEASURES`` that judge what a model wrote ("written_right"). The others are of the
quotes, which both models share."""


@dataclass(frozen=True, slots=True)
class EndpointState:
    """What DescribeEndpoint tells, with ``str``: "InService; AllTraffic 95 %, Canary 5 %"."""

    status: str
    """``InService`` when an update is possible."""
    config: str
    """The configuration that serves; an update's own only when it has ended."""
    weights: Mapping[str, float]
    """By variant: a variant's share of the calls is its weight by the sum of all, which need not be 1."""
    reason: str
    """Why the last update failed; empty where it did not."""

    @property
    def canary_percent(self) -> float:
        return 100 * self.weights.get(CANARY_VARIANT, 0.0) / (sum(self.weights.values()) or 1.0)

    def __str__(self) -> str:
        share = self.canary_percent
        shares = f"{SERVED_VARIANT} {100 - share:g} %, {CANARY_VARIANT} {share:g} %"
        shown = shares if CANARY_VARIANT in self.weights else f"{SERVED_VARIANT} alone"
        return f"{self.status}; {shown}" + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """The LLM endpoint of one tenant, with its two configurations.

        canary = Canary.of_stack(deployed)
        canary.release(5)    # "InService; AllTraffic alone" → "InService; AllTraffic 95 %, Canary 5 %"
        canary.rollback()    # → "InService; AllTraffic alone"

    Each call waits until SageMaker has ended the update, some 20 to 60 minutes.
    """

    aws: AwsAccount
    endpoint: str
    served_config: str
    canary_config: str
    artifact: str = ""
    """SHA-256 of the artifact that the canary runs."""
    role: str | None = None
    """The stack's role that may move it, assumed for each call: an assumed role lasts an hour. None: the
    credentials of whoever runs the command."""
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def of_stack(cls, deployed: Deployed) -> Canary | None:
        """Return what a deployed models stack declares; None without a candidate. Raises DeploymentError."""
        outputs = deployed.aws.outputs(deployed.stack("Models"))
        if CANARY_CONFIG_OUTPUT not in outputs:
            return None
        return cls(
            aws=deployed.aws,
            endpoint=deployed.config.generation.endpoint,
            served_config=outputs[SERVED_CONFIG_OUTPUT],
            canary_config=outputs[CANARY_CONFIG_OUTPUT],
            artifact=outputs[CANARY_ARTIFACT_OUTPUT],
            role=outputs.get(RELEASER_OUTPUT),
        )

    def state(self) -> EndpointState | None:
        """Return the endpoint's state; None where there is none: the tenant is paused. Raises
        DeploymentError."""
        endpoint = self._call("describe_endpoint", missing="ValidationException")
        if endpoint is None:
            return None
        rows = endpoint.get("ProductionVariants", ())
        weights = {str(row["VariantName"]): float(row.get("CurrentWeight", 0.0)) for row in rows}
        reason = str(endpoint.get("FailureReason", ""))
        return EndpointState(endpoint["EndpointStatus"], endpoint["EndpointConfigName"], weights, reason)

    def check_free(self) -> EndpointState:
        """Return the state of an endpoint that a release may begin on, or go on with.

        Raises ConflictError, NotFoundError (paused), DeploymentError.
        """
        state = self.state()
        if state is None:
            raise NotFoundError(f"There is no endpoint {self.endpoint}: resume the tenant, then release.")
        if state.status != "InService":
            why = "a release, a rollback or a deployment is under way, or failed"
        elif state.config not in (self.served_config, self.canary_config):
            why = f"{state.config} is no configuration of its stack: deploy first"
        elif state.canary_percent > 0:
            why = "roll that canary back first: assistant models release --back"
        else:
            return state
        raise ConflictError(f"{self.endpoint} is {state}: {why}.")

    def release(self, percent: float) -> EndpointState:
        """Start the canary and give it its share. Return the state then.

        Its container starts without calls, so a model that does not start reaches no agent. Raises
        ConflictError, NotFoundError, DeploymentError with SageMaker's reason; the served model answers all.
        """
        state = self.check_free()
        if state.config != self.canary_config:
            state = self._move_to(self.canary_config)
        # The served variant keeps its weight: 1.0 beside 0.0526 is 95 % to 5 %.
        return self._weigh(state.weights[SERVED_VARIANT] * percent / (100 - percent))

    def rollback(self) -> EndpointState | None:
        """Take the canary's share, then the canary. Return the state then; None while paused.

        It waits for an update in progress. Raises NotFoundError where nothing was released, DeploymentError.
        """
        before = self.state()
        state = before and self._settled()
        if before is None or state is None:
            return None
        if state.config != self.canary_config:
            if before.status == "InService":
                raise NotFoundError(f"{self.endpoint} runs no canary: there is nothing to roll back.")
            return state  # the update that was waited for ended without the canary
        if state.status != "InService":
            advice = "Pause and resume the tenant (docs/runbook.md): that makes it anew, without the canary."
            raise DeploymentError(
                f"{self.endpoint} is {state}, and SageMaker does not update it then. {advice}"
            )
        if state.canary_percent > 0:
            self._weigh(0.0)
        return self._move_to(self.served_config)

    def _move_to(self, config: str) -> EndpointState:
        """Move the endpoint to a configuration, and return its state after the update.

        Variants keep their weights and instances, those that scaling reached too.
        A deployment's guardrails ask for the same variants before and after ("Exclusions", deployment
        guardrails, SageMaker AI developer guide), so this update has none: all at once, blue/green.
        """
        given = {"EndpointConfigName": config, "RetainAllVariantProperties": True}
        return self._change("update_endpoint", lambda state: state.config == config, **given)

    def _weigh(self, weight: float) -> EndpointState:
        """Give the canary a weight, and return the state after the update."""
        return self._change(
            "update_endpoint_weights_and_capacities",
            lambda state: abs(state.weights.get(CANARY_VARIANT, 0.0) - weight) < 1e-6,
            DesiredWeightsAndCapacities=[{"VariantName": CANARY_VARIANT, "DesiredWeight": weight}],
        )

    def _change(self, call: str, is_done: Callable[[EndpointState], bool], **given: Any) -> EndpointState:
        """Make a call of boto3 that updates the endpoint, and wait for its end. Raises DeploymentError unless
        the endpoint is in service then and ``is_done`` of its state."""
        self._call(call, **given)
        state = self._settled()
        if state is None or state.status != "InService" or not is_done(state):
            now = state or "gone: the tenant was paused"
            advice = "Read its log group, then run the command again."
            raise DeploymentError(f"{self.endpoint}: {call} failed; it is {now}. {advice}")
        return state

    def _call(self, call: str, **given: Any) -> Any:
        """Return what SageMaker answers to a call of boto3 about the endpoint. Raises DeploymentError."""
        aws = self.aws if self.role is None else self.aws.as_role(self.role)
        return aws.call("sagemaker", call, EndpointName=self.endpoint, **given)

    def _settled(self) -> EndpointState | None:
        """Return the state when no update runs any more. Raises DeploymentError after ``LIMIT_S``."""
        for _ in range(int(LIMIT_S / _POLL_S)):
            state = self.state()
            if state is None or state.status not in _MOVING:
                return state
            self.sleep(_POLL_S)
        raise DeploymentError(f"{self.endpoint} is still being updated after {LIMIT_S:.0f} s. Run it again.")


def refuse_canary(deployed: Deployed) -> None:
    """Raise DeploymentError while a canary runs. ``option.py`` joins it to what runs before a deployment.

    CloudFormation does not know that a release moved the endpoint: it could delete the configuration that
    serves, and an update of its own would end the canary unseen. It reads by the credentials of whoever
    deploys, as ``role`` may be about to change.
    """
    canary, tenant = Canary.of_stack(deployed), deployed.config.name
    state = canary and replace(canary, role=None).state()
    if canary is not None and state is not None and state.config == canary.canary_config:
        advice = f"End that release, then deploy: assistant models release --back --tenant {tenant}"
        raise DeploymentError(f"{canary.endpoint} runs a canary ({state}). {advice}")


# --- before: the evaluation ---------------------------------------------------------------------------------
def compared(
    served: TenantRun, candidate: TenantRun, *, manifests: tuple[LlmManifest, LlmManifest]
) -> dict[str, Estimate]:
    """Return by measure how the candidate's written answers differ (candidate minus served), question by
    question on the held-out half.

    ``manifests``: of the served model and of the candidate. Raises ConflictError where the runs are not of
    these models or not comparable, and where the candidate is worse: where the whole interval of a measure's
    difference is on the worse side of 0.
    """
    if served.questions_sha256 != candidate.questions_sha256:
        raise ConflictError("The two evaluations asked different questions. Run both on the same file.")
    for run, manifest in zip((served, candidate), manifests, strict=True):
        other_forms = manifest.lineage.also if manifest.lineage else ()
        if run.writer_sha256 not in (None, manifest.sha256, *other_forms):
            advice = f"Evaluate {manifest.name}, or package it with --evaluated FILE."
            raise ConflictError(f"The evaluation is of the weights {run.writer_sha256}. {advice}")
    pairs = paired(served.results, candidate.results)
    differences = {name: pair for name, pair in pairs.items() if name.startswith(_JUDGED_PREFIXES)}
    if "written_right" not in differences:
        advice = "Run each with a model that writes: assistant evaluate --record FILE --name NAME."
        raise ConflictError(f"The evaluations hold no answers that both models wrote. {advice}")
    worse = [
        f"{measure.title}: {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
        for measure in MEASURES
        if measure.better and (change := differences.get(measure.name)) is not None
        if (change.high if measure.better > 0 else -change.low) < 0  # the interval is below (above) 0
    ]
    if worse:
        raise ConflictError(f"The candidate is worse than the served model: {'; '.join(worse)}.")
    return differences


# --- after: what became of each variant's answers -----------------------------------------------------------
Fate = Literal["good", "bad", "withheld", "failed"]
"""``good``, ``bad``: the last mark. ``withheld``: the model's text was withheld, or a quote replaced it
because a check failed. ``failed``: the model broke off or was late after it had begun."""
FATES: tuple[Fate, ...] = get_args(Fate)
_HARM: tuple[Fate, ...] = ("bad", "withheld", "failed")
"""Fates by which the canary is judged."""
_Z = 1.959964
"""Standard score of a two-sided interval of 95 %."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its interval: in 95 of 100 samples of such answers the interval holds the true one."""

    number: int
    of: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.number}/{self.of} [{self.low:.2f}, {self.high:.2f}]"


def share(number: int, of: int) -> Share:
    """Return a share with Wilson's score interval (Wilson 1927, JASA 22:209): ``share(3, 20)`` is 0.15 in
    [0.05, 0.36]. Of no answers the interval is [0, 1]."""
    if not of:
        return Share(0, 0, 0.0, 0.0, 1.0)
    value, square = number / of, _Z * _Z
    middle = (value + square / (2 * of)) / (1 + square / of)
    half = _Z * sqrt(value * (1 - value) / of + square / (4 * of * of)) / (1 + square / of)
    return Share(number, of, value, max(0.0, middle - half), min(1.0, middle + half))


def rise(before: Share, after: Share) -> tuple[float, float]:
    """Return the interval (low, high) of ``after`` minus ``before``, two independent shares (Newcombe 1998,
    Statistics in Medicine 17:873, method 10). A low above 0 means that ``after`` is greater."""
    step = after.value - before.value
    low = step - sqrt((after.value - after.low) ** 2 + (before.high - before.value) ** 2)
    return low, step + sqrt((after.high - after.value) ** 2 + (before.value - before.low) ** 2)


@dataclass(slots=True)
class VariantCounts:
    """Answers of one variant, with how many of them had each fate."""

    answers: int = 0
    fates: dict[Fate, int] = field(default_factory=lambda: dict.fromkeys(FATES, 0))
    digests: set[str] = field(default_factory=set[str])
    """SHA-256 of the artifacts that wrote them, as the records say."""

    @property
    def shown_digests(self) -> str:
        return ", ".join(digest[:12] for digest in sorted(self.digests))

    def share(self, fate: Fate) -> Share:
        """Return the share of the marked answers for a mark, of all answers for the others."""
        marked = self.fates["good"] + self.fates["bad"]
        return share(self.fates[fate], marked if fate in ("good", "bad") else self.answers)


def harm_of(counts: Mapping[str, VariantCounts]) -> list[Fate]:
    """Return in what the canary is worse than the served model by more than the interval of their difference.

    Each of three fates is judged at 95 %: at one look, an equal model seems worse in one of them with a
    chance of some 7 % (three times a fortieth), and each further look adds to it.
    """
    served, canary = (counts.get(name, VariantCounts()) for name in (SERVED_VARIANT, CANARY_VARIANT))
    return [fate for fate in _HARM if rise(served.share(fate), canary.share(fate))[0] > 0]


async def count_variants(
    records: StoredRecords, *, since: datetime, until: datetime
) -> dict[str, VariantCounts]:
    """Return the counts by variant of the answers asked in [since, until). Raises RecordsUnavailableError.

        {"AllTraffic": VariantCounts(answers=950, fates={"good": 40, …}), "Canary": VariantCounts(…)}

    A call that failed before its response began has no variant: the endpoint's metrics count it.
    """
    counts: dict[str, VariantCounts] = {}
    async for record in asked_answers(records, since=since, until=until):
        if record.variant is None:
            continue
        counted = counts.setdefault(record.variant, VariantCounts())
        counted.answers += 1
        counted.digests |= {record.model_digest} if record.model_digest else set()
        marks = [stored.verdict.label for stored in await records.list_verdicts(record.answer_id)]
        for fate in _fates(record, marks[-1:]):
            counted.fates[fate] += 1
    return counts


def _fates(record: AnswerRecord, last_mark: Sequence[VerdictLabel]) -> list[Fate]:
    """Return what became of an answer: any number of fates. ``last_mark``: its label; empty for an unmarked
    answer."""
    is_checked = record.fallback is None or record.fallback in FAILED_CHECKS
    is_withheld = any(sentence.detail == "withheld" for sentence in record.sentences)
    holds: dict[Fate, bool] = {
        "good": VerdictLabel.GOOD in last_mark,
        "bad": VerdictLabel.BAD in last_mark,
        "withheld": is_withheld or record.fallback in FAILED_CHECKS,
        # Any other code of ``fallback`` says that the model broke off or was late.
        "failed": record.outcome is Outcome.FAILED or not is_checked,
    }
    return [fate for fate in FATES if holds[fate]]
