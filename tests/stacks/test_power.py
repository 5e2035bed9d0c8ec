"""The power switch: a paused night sends no message to a dead-letter queue and trips no alarm and no circuit
breaker, and a redeployment leaves the tenant paused.

The tests execute the state machines of the synthesized template call by call, in virtual time.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from assistant.tenant.deployed_names import ON, PAUSED, PAUSING, RESUMING
from tests.stacks.power.simulation import LONGEST_ANSWER_S, STALEST_WORD_S, Tenant
from tests.stacks.power.templates import machines, models_template, switched, tenant_of
from tests.stacks.synthesized import assembly_folder, templates_in
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


# --- when something fails -------------------------------------------------------------------------------


def test_a_resume_without_capacity_fails_and_leaves_the_tenant_paused(tenant: Tenant) -> None:
    switched(tenant, "pause")
    tenant.update_fails = 1.0

    assert switched(tenant, "resume") == "NotDone"
    assert tenant.is_consistent()
    assert tenant.word == PAUSED


@pytest.mark.parametrize("seed", range(8))
def test_a_failed_pause_leaves_the_tenant_on(seed: int) -> None:
    tenant = tenant_of(Random(seed))  # noqa: S311
    tenant.update_fails = 1.0

    assert switched(tenant, "pause") == "NotDone"
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


# --- the event sources that a pause disables --------------------------------------------------------------


@pytest.fixture
def ingestion(assembly: Path) -> dict[str, Any]:
    return dict(templates_in(assembly_folder(assembly, "pharmacy"))["Ingestion"])


def _switched(template: dict[str, Any]) -> dict[str, Any]:
    """Return the mappings that the power state switches, by logical id."""
    mappings = resources_of(template, "AWS::Lambda::EventSourceMapping")
    return {name: body for name, body in mappings.items() if isinstance(body["Properties"]["Enabled"], dict)}


def test_withdrawals_are_processed_during_a_pause(ingestion: dict[str, Any]) -> None:
    mappings = resources_of(ingestion, "AWS::Lambda::EventSourceMapping")
    always = [body for name, body in mappings.items() if name not in _switched(ingestion)]

    assert any("Withdrawals" in str(body["Properties"]["EventSourceArn"]) for body in always)
    assert all(body["Properties"]["Enabled"] is True for body in always)


def test_the_state_machines_switch_exactly_these_event_sources(ingestion: dict[str, Any]) -> None:
    (told,) = (
        body["Properties"]
        for body in resources_of(ingestion, "AWS::SSM::Parameter").values()
        if body["Properties"]["Name"] == "/assistant/pharmacy/power-sources"
    )
    parts = told["Value"]["Fn::Join"][1]
    named = [part["Ref"] for part in parts if isinstance(part, dict)]

    written = json.loads("".join(part if isinstance(part, str) else part["Ref"] for part in parts))
    assert set(written["event_sources"]) == set(_switched(ingestion))
    assert len(written["queues"]) == 2
    assert len(named) == 4
