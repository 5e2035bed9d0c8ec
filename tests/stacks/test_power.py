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
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.tenant.deployed_names import ON, PAUSED
from tests.stacks.power.simulation import (
    LONGEST_ANSWER_S,
    STALEST_WORD_S,
    Tenant,
    machines,
    models_template,
    switched,
    tenant_of,
)
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


HOUR_S = 3600.0
_HAPPENINGS = st.sampled_from(["pause", "resume", "deploy", "deploy that fails", "documents", "question"])
_ANY_ORDER = st.lists(st.tuples(st.floats(0, 10 * HOUR_S), _HAPPENINGS), min_size=1, max_size=14)
_CHANCE = st.randoms(use_true_random=False)
_MANY = settings(max_examples=60, deadline=None)
_KINDS = st.sampled_from(["pause", "resume"])
_REACHED = {"pause": PAUSED, "resume": ON}


def _happen(tenant: Tenant, kind: str) -> None:
    match kind:
        case "deploy":
            tenant.deploy()
        case "deploy that fails":
            tenant.deploy(fails=True)
        case "documents":
            for _ in range(3):
                tenant.arrive()
        case "question":
            tenant.ask()
        case _:
            tenant.start(kind)


def _live(tenant: Tenant, happenings: list[tuple[float, str]]) -> None:
    """Run every event, and the events that follow from it."""
    for time_s, kind in happenings:
        tenant.at(time_s, lambda kind=kind: _happen(tenant, kind))
    tenant.poll(until_s=tenant.now_s + 30 * HOUR_S)
    tenant.run()


@_MANY
@given(happenings=_ANY_ORDER, chance=_CHANCE, word=st.sampled_from([ON, PAUSED]))
def test_every_order_of_events_ends_in_a_consistent_state(
    happenings: list[tuple[float, str]], chance: Random, word: str
) -> None:
    tenant = tenant_of(chance, word=word)
    _live(tenant, happenings)

    assert all(execution.outcome is not None for execution in tenant.executions)
    assert tenant.blind_updates == 0
    assert tenant.dead_letters == 0
    assert tenant.word in (ON, PAUSED)
    assert tenant.stack.stands == (tenant.word == ON)


@_MANY
@given(
    asked=st.lists(st.tuples(st.floats(0, 600), _KINDS), min_size=1, max_size=5),
    gap_s=st.floats(10, 8 * HOUR_S),
    last=_KINDS,
    chance=_CHANCE,
)
def test_the_last_request_wins(
    asked: list[tuple[float, str]], gap_s: float, last: str, chance: Random
) -> None:
    tenant = tenant_of(chance)
    _live(tenant, [*asked, (max(time_s for time_s, _ in asked) + gap_s, last)])

    assert tenant.executions[-1].outcome == "SUCCEEDED"
    assert tenant.word == _REACHED[last]
    assert tenant.is_consistent()


@_MANY
@given(
    first=_KINDS,
    later=st.lists(st.tuples(st.integers(6, 50), _KINDS), min_size=1, max_size=3),
    chance=_CHANCE,
    word=st.sampled_from([ON, PAUSED]),
)
def test_a_request_between_two_calls_of_a_state_machine_is_not_lost(
    first: str, later: list[tuple[int, str]], chance: Random, word: str
) -> None:
    """Each after so many calls of the one before, which by then has put its own word. A machine that is
    overtaken again and again says so; what was asked for last stands all the same."""
    tenant = tenant_of(chance, word=word)
    tenant.follow_ups = list(later)
    tenant.start(first)
    tenant.run()

    assert {execution.outcome for execution in tenant.executions} <= {"SUCCEEDED", "TooManyRequests"}
    assert tenant.word == _REACHED[tenant.executions[-1].kind]
    assert tenant.is_consistent()


@_MANY
@given(
    happenings=st.lists(
        st.tuples(
            st.floats(0, 16 * HOUR_S),
            st.sampled_from(["deploy", "deploy that fails", "documents", "question"]),
        ),
        max_size=30,
    ),
    pause_s=st.floats(0, 2 * HOUR_S),
    resume_s=st.floats(7 * HOUR_S, 12 * HOUR_S),
    chance=_CHANCE,
)
def test_no_call_goes_to_a_deleted_endpoint_during_a_pause(
    happenings: list[tuple[float, str]], pause_s: float, resume_s: float, chance: Random
) -> None:
    """No call fails, so no alarm, no circuit breaker and no used-up attempt of a message."""
    tenant = tenant_of(chance)
    _live(tenant, [*happenings, (pause_s, "pause"), (resume_s, "resume")])

    assert tenant.failed_calls == []
    assert tenant.dead_letters == 0
    assert tenant.word == ON


@_MANY
@given(
    happenings=_ANY_ORDER,
    shares=st.dictionaries(
        st.sampled_from(
            [
                "ssm:getParameter",
                "ssm:putParameter",
                "cloudformation:describeStacks",
                "cloudformation:updateStack",
                "lambda:updateEventSourceMapping",
                "sqs:getQueueAttributes",
            ]
        ),
        st.sampled_from([0.1, 0.5, 1.0]),
    ),
    update_fails=st.sampled_from([0.0, 0.5, 1.0]),
    chance=_CHANCE,
)
def test_after_any_failed_call_the_execution_ends_and_a_resume_repairs_the_state(
    happenings: list[tuple[float, str]], shares: dict[str, float], update_fails: float, chance: Random
) -> None:
    tenant = tenant_of(chance)
    tenant.failures, tenant.update_fails = shares, update_fails
    _live(tenant, happenings)
    assert all(execution.outcome is not None for execution in tenant.executions)
    assert tenant.blind_updates == 0
    assert tenant.dead_letters == 0

    tenant.failures, tenant.update_fails = {}, 0.0
    assert switched(tenant, "resume") == "SUCCEEDED"
    assert tenant.is_consistent()
    assert tenant.word == ON
