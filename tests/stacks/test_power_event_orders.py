"""The power state machines with events in any order: requests, deployments, messages, questions, failures."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.tenant.deployed_names import ON, PAUSED
from tests.stacks.power.simulation import Tenant
from tests.stacks.power.templates import switched, tenant_of

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
