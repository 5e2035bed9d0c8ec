"""The power switch: a paused night sends no message to a dead-letter queue and trips no alarm and no circuit
breaker, and a redeployment leaves the tenant paused.

The tests execute the state machines of the synthesized template call by call, in virtual time.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from assistant.tenant.deployed_names import ON, PAUSED, PAUSING, RESUMING
from tests.stacks.power.simulation import LONGEST_ANSWER_S, STALEST_WORD_S, Tenant
from tests.stacks.power.templates import machines, models_template, switched, tenant_of
from tests.stacks.values import resources_of


def _state(name: str) -> Any:
    """Return a state of the machines; both have the same."""
    return machines()["pause"]["States"][name]


def _most(state: Any, variable: str) -> int:
    """Return the limit of a counter in a choice state."""
    rules = [part for rule in state["Choices"] for part in rule.get("And", [rule])]
    (bound,) = (
        value
        for rule in rules
        if rule["Variable"] == variable
        for name, value in rule.items()
        if name.startswith("Numeric")
    )
    return int(bound)


HISTORY_EVENTS = 25_000
"""Step Functions ends an execution with more."""


@pytest.fixture
def tenant() -> Tenant:
    return tenant_of(Random(1))  # noqa: S311


# --- one night ------------------------------------------------------------------------------------------


def test_pausing_deletes_the_endpoints_and_resuming_creates_them(tenant: Tenant) -> None:
    assert switched(tenant, "pause") == "SUCCEEDED"
    assert (tenant.word, tenant.stack.stands, tenant.enabled) == (PAUSED, False, False)

    assert switched(tenant, "resume") == "SUCCEEDED"
    assert (tenant.word, tenant.stack.stands, tenant.enabled) == (ON, True, True)


def test_the_power_states_follow_in_order(tenant: Tenant) -> None:
    switched(tenant, "pause")
    switched(tenant, "resume")

    assert tenant.words == [ON, PAUSING, PAUSED, RESUMING, ON]


def test_a_second_pause_and_a_second_resume_change_nothing(tenant: Tenant) -> None:
    switched(tenant, "pause")
    assert switched(tenant, "pause") == "SUCCEEDED"
    assert tenant.words == [ON, PAUSING, PAUSED]

    switched(tenant, "resume")
    assert switched(tenant, "resume") == "SUCCEEDED"
    assert tenant.words == [ON, PAUSING, PAUSED, RESUMING, ON]


def test_a_redeploy_leaves_a_paused_tenant_paused(tenant: Tenant) -> None:
    switched(tenant, "pause")

    assert tenant.deploy()
    tenant.run()

    assert tenant.is_consistent()
    assert tenant.word == PAUSED


def test_a_switch_waits_for_the_end_of_a_deployment(tenant: Tenant) -> None:
    tenant.deploy()
    execution = tenant.start("pause")
    tenant.run()

    assert execution.outcome == "SUCCEEDED"
    assert tenant.blind_updates == 0
    assert tenant.is_consistent()
    assert tenant.word == PAUSED


def test_work_in_progress_ends_before_the_endpoints_are_deleted(tenant: Tenant) -> None:
    for _ in range(3):
        tenant.arrive()
    tenant.poll(until_s=300)
    tenant.run(until_s=200)
    tenant.ask()
    tenant.run(until_s=201)
    tenant.start("pause")
    tenant.run()

    assert tenant.failed_calls == []
    assert tenant.answered["answered"] == 1


@pytest.mark.parametrize(
    ("kind", "written", "asked", "rest"), [("resume", ON, PAUSING, PAUSED), ("pause", PAUSED, RESUMING, ON)]
)
def test_a_request_that_a_state_machine_overwrites_is_restored(
    tenant: Tenant, kind: str, written: str, asked: str, rest: str
) -> None:
    if kind == "resume":
        switched(tenant, "pause")
    tenant.slip_in = {written: asked}

    assert switched(tenant, kind) == "SUCCEEDED"
    assert tenant.word == rest
    assert tenant.is_consistent()


# --- when something fails -------------------------------------------------------------------------------


def test_a_resume_without_capacity_fails_and_leaves_the_tenant_paused(tenant: Tenant) -> None:
    switched(tenant, "pause")
    tenant.update_fails = 1.0

    assert switched(tenant, "resume") == "NotDone"
    assert tenant.is_consistent()
    assert tenant.word == PAUSED


def test_a_redundant_resume_enables_no_event_source_after_a_pause() -> None:
    """A busy mapping is retried: some seeds disable the source before the resume enables it."""
    for seed in range(100):
        tenant = tenant_of(Random(seed))  # noqa: S311
        tenant.failures = {"lambda:updateEventSourceMapping": 0.5}
        tenant.follow_ups = [(7, "pause")]
        tenant.start("resume")
        tenant.run()

        assert not (tenant.word == PAUSED and tenant.enabled), seed


@pytest.mark.parametrize("seed", range(8))
def test_a_failed_pause_leaves_the_tenant_on(seed: int) -> None:
    tenant = tenant_of(Random(seed))  # noqa: S311
    tenant.update_fails = 1.0

    assert switched(tenant, "pause") == "NotDone"
    assert tenant.is_consistent()
    assert tenant.word == ON


def test_a_failed_second_pause_never_writes_on_without_endpoints(tenant: Tenant) -> None:
    switched(tenant, "pause")
    for _ in range(3):
        tenant.arrive()
    tenant.failures = {"cloudformation:updateStack": 1.0}
    execution = tenant.start("pause")
    tenant.poll(until_s=tenant.now_s + 24 * 3600)
    tenant.run()

    assert execution.outcome == "NotDone"
    assert (tenant.word, tenant.stack.stands) == (PAUSED, False)
    assert (tenant.failed_calls, tenant.dead_letters) == ([], 0)


def test_a_resume_waits_for_capacity(tenant: Tenant) -> None:
    switched(tenant, "pause")
    tenant.update_fails = 1.0
    execution = tenant.start("resume")
    tenant.at(tenant.now_s + 60, lambda: setattr(tenant, "update_fails", 0.0))
    tenant.run()

    assert execution.outcome == "SUCCEEDED"
    assert tenant.is_consistent()
    assert tenant.word == ON


def test_a_stack_that_needs_repair_is_not_updated(tenant: Tenant) -> None:
    tenant.stack.status = "UPDATE_ROLLBACK_FAILED"

    assert switched(tenant, "pause") == "StackNeedsRepair"
    assert tenant.stack.stands


def test_the_wait_for_a_deployment_is_bounded(tenant: Tenant) -> None:
    tenant.stack.status = "UPDATE_IN_PROGRESS"

    execution = tenant.start("pause")
    tenant.run()

    assert execution.outcome == "DeployTooLong"


def test_a_missing_event_source_is_ignored() -> None:
    (catch,) = machines()["pause"]["States"]["StopSources"]["ItemProcessor"]["States"]["SetEventSource"][
        "Catch"
    ]

    assert catch == {"ErrorEquals": ["Lambda.ResourceNotFoundException"], "Next": "EventSourceDeleted"}


def test_the_longest_execution_fits_step_functions_history() -> None:
    rounds, looks, watches, drains = _polls()
    events_of_a_poll = 2 + 2 + 2 + 5  # wait, count, choice, call

    assert rounds * (looks + watches + drains) * events_of_a_poll < HISTORY_EVENTS


def test_the_longest_execution_is_shorter_than_the_timeout() -> None:
    rounds, looks, watches, drains = _polls()
    waits_s = {
        name: _state(name)["Seconds"]
        for name in (
            "WaitForDeployment",
            "WaitBeforeUpdate",
            "WaitForUpdate",
            "WaitBeforeRetry",
            "WaitForAnswers",
        )
    }
    looks_s = looks * max(waits_s["WaitForDeployment"], waits_s["WaitBeforeUpdate"])
    updates_s = watches * waits_s["WaitForUpdate"]
    retries_s = waits_s["WaitBeforeRetry"] * _most(_state("CheckUpdateAttempts"), "$.counters.updates")
    drains_s = waits_s["WaitForAnswers"] + drains * _queue_states()["WaitForMessages"]["Seconds"]

    assert rounds * (looks_s + updates_s + retries_s + drains_s) < machines()["pause"]["TimeoutSeconds"]


def _queue_states() -> Any:
    return _state("WaitForQueues")["ItemProcessor"]["States"]


def _polls() -> tuple[int, int, int, int]:
    """Return the most rounds, and the most polls per round of deployments, of its updates and of queues."""
    polls = "$.counters.polls"
    assert _most(_state("CheckStack"), polls) == _most(_state("CheckStackBeforeUpdate"), polls)
    updates = _most(_state("CheckUpdateAttempts"), "$.counters.updates")
    return (
        _most(_state("CheckRounds"), "$.counters.round"),
        3 * _most(_state("CheckStack"), polls),
        updates * _most(_state("CheckUpdate"), polls),
        2 * _most(_queue_states()["CheckQueue"], "$.polls"),
    )


def test_a_pause_waits_longer_than_an_answer_that_started_before_it() -> None:
    assert _state("WaitForAnswers")["Seconds"] > LONGEST_ANSWER_S + STALEST_WORD_S


# --- what stands only while the power is on ---------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        "AWS::SageMaker::Endpoint",
        "AWS::ApplicationAutoScaling::ScalableTarget",
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        "AWS::CloudWatch::Alarm",
    ],
)
def test_endpoints_scaling_and_alarms_have_the_same_condition(kind: str) -> None:
    found = resources_of(models_template(), kind)

    assert found
    assert {body.get("Condition") for body in found.values()} == {"Stands"}


def test_nothing_refers_to_an_endpoint() -> None:
    """Names are fixed, so consumers need no attribute of an endpoint, which does not exist while paused."""
    endpoints = set(resources_of(models_template(), "AWS::SageMaker::Endpoint"))
    others = [body for name, body in models_template()["Resources"].items() if name not in endpoints]

    assert not endpoints & set(_references([*others, models_template().get("Outputs", {})]))


def test_no_stack_creates_the_power_parameter() -> None:
    power = models_template()["Parameters"]["Power"]

    assert power["Type"] == "AWS::SSM::Parameter::Value<String>"
    assert power["Default"] == "/assistant/pharmacy/power"
    made = {
        body["Properties"]["Name"] for body in resources_of(models_template(), "AWS::SSM::Parameter").values()
    }
    assert power["Default"] not in made


def test_an_update_by_a_state_machine_keeps_every_stack_parameter() -> None:
    asked = machines()["pause"]["States"]["UpdateStack"]["Parameters"]["Parameters"]

    # BootstrapVersion is the deployment tool's: its default is what every deployment gives.
    kept = {parameter["ParameterKey"] for parameter in asked}
    assert kept == set(models_template()["Parameters"]) - {"BootstrapVersion"}


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for part in value for name in _references(part)]
    if not isinstance(value, dict):
        return []
    own = [value["Ref"]] if "Ref" in value else [value["Fn::GetAtt"][0]] if "Fn::GetAtt" in value else []
    return [*own, *(name for part in value.values() for name in _references(part))]
