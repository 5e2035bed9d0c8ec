"""``assistant aws resume`` and ``assistant aws pause``: start a tenant's state machine, and wait for its end.

The machine changes the models stack (``stacks/models.py``); a repeated call joins a running execution.
A resume first asks for the quotas that it needs: SageMaker would refuse the instances after minutes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assistant.cli.aws.doctor import checked
from assistant.domain.errors import DeploymentError
from assistant.tenant.deployed_names import ON, PAUSED
from assistant.terminal.account import AwsAccount, Finding, endpoint_variants, low_quotas, wait_until
from assistant.terminal.terminal import Terminal

_LIMIT_S = 330 * 60.0
"""The machine waits for a deployment for four hours at most, and for new endpoints for an hour and a half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerChange:
    """What a change of the power state starts from and leads to."""

    tenant: str
    before: str
    after: str
    instances: Mapping[str, int]
    """Instances that start, by type; none for a pause."""
    quotas: list[Finding]
    """Findings on quotas: ``warn`` for one that is too low, with the command that asks for more; ``unknown``
    where they could not be asked."""

    def as_text(self) -> str:
        listed = ", ".join(f"{count} of {kind}" for kind, count in sorted(self.instances.items()))
        lines = [f"{self.tenant}: from {self.before} to {self.after}"]
        lines += [f"starts {listed}"] if listed else []
        return "\n".join([*lines, *(quota.said for quota in self.quotas)])


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCommand:
    """Changes the power state of one deployed tenant: ``run(plan(ON))``."""

    aws: AwsAccount
    tenant: str
    stack: str
    """Name of the models stack; its outputs ``PauseMachine`` and ``ResumeMachine`` are the machines' ARNs."""
    parameter: str
    """Name of the SSM parameter with the power state (``deployed_names.ON``, ``PAUSED``, …)."""
    terminal: Terminal
    poll_s: float = 10.0

    def plan(self, wanted: str) -> PowerChange:
        """Return what a change to ``wanted`` (``ON`` or ``PAUSED``) does; it changes nothing. Raises
        DeploymentError where nothing is deployed."""
        before = self._state()
        instances: Mapping[str, int] = self._instances() if before != wanted == ON else {}
        usage = {f"{kind} for endpoint usage": count for kind, count in instances.items()}
        findings = checked("instances", lambda: low_quotas(self.aws, "sagemaker", usage)) if usage else ()
        quotas = [quota for quota in findings if quota.kind != "pass"]
        return PowerChange(
            tenant=self.tenant, before=before, after=wanted, instances=instances, quotas=quotas
        )

    def run(self, change: PowerChange) -> None:
        """Start the state machine, or join the execution that runs, and wait for the state ``change.after``.
        Starts nothing where a quota is too low, or the state is reached already. Raises DeploymentError."""
        if low := [quota.said for quota in change.quotas if quota.kind == "warn"]:
            raise DeploymentError("\n".join(["Nothing was started. Put this into a ticket to AWS:", *low]))
        if change.before == change.after:
            self.terminal.say(f"{self.tenant} is {change.after} already")
            return
        verb = "Pause" if change.after == PAUSED else "Resume"
        machine = self.aws.outputs(self.stack)[f"{verb}Machine"]
        running = self._executions(machine, statusFilter="RUNNING")
        if running:
            execution = str(running[0]["executionArn"])
        else:
            execution = str(
                self.aws.call("stepfunctions", "start_execution", stateMachineArn=machine)["executionArn"]
            )
        self.terminal.step(f"from {change.before} to {change.after}, by {execution}")
        wait_until(
            f"{self.tenant} is not {change.after}",
            lambda: self._is_over(execution, machine, wanted=change.after),
            poll_s=self.poll_s,
            limit_s=_LIMIT_S,
        )

    def _executions(self, machine: str, **given: str) -> list[Mapping[str, Any]]:
        """Return executions of a machine. The machine has the tenant's tag, and an execution has none, so a
        policy could not tell a neighbour's apart: none is described by itself."""
        return self.aws.listed(
            "stepfunctions", "list_executions", "executions", stateMachineArn=machine, **given
        )

    def _is_over(self, execution: str, machine: str, *, wanted: str) -> bool:
        """Return whether the state is reached. Raises DeploymentError where the execution ended without
        it."""
        status = {each["executionArn"]: each["status"] for each in self._executions(machine)}[execution]
        if status not in ("RUNNING", "SUCCEEDED"):
            raise DeploymentError(f"{execution} ended as {status}. See docs/runbook.md#power-switch-failed.")
        state = self._state()
        if status == "SUCCEEDED" and state != wanted:
            raise DeploymentError(f"{self.tenant} is {state}: somebody asked for it meanwhile.")
        return state == wanted

    def _state(self) -> str:
        if (state := self.aws.parameter(self.parameter)) is None:
            raise DeploymentError(f"There is no parameter {self.parameter}: {self.tenant} is not deployed.")
        return state

    def _instances(self) -> Mapping[str, int]:
        """Return how many instances the deployed endpoint configurations start with, by type."""
        if (template := self.aws.template(self.stack)) is None:
            raise DeploymentError(f"There is no stack {self.stack}. First run: assistant aws deploy")
        counts = Counter[str]()
        for _, variant in endpoint_variants({self.stack: template}):
            counts[str(variant["InstanceType"])] += int(variant["InitialInstanceCount"])
        return counts
