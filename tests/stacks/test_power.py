"""The power switch: a paused night sends no message to a dead-letter queue and trips no alarm and no circuit
breaker, and a redeployment leaves the tenant paused.

The tests execute the state machines of the synthesized template call by call, in virtual time.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aws_cdk import aws_lambda as lambda_
from hypothesis import given
from hypothesis import strategies as st

from assistant.tenant.deployed_names import CLOSED, ON, PAUSED
from stacks.models import ModelsStack, PowerSwitch
from stacks.tenant_stack import TenantStack
from tests.stacks.power.state_language import (
    Call,
    CallFailedError,
    ExecutionFailedError,
    Pause,
    Steps,
    execute,
)
from tests.stacks.synthesized import assembly_folder, templates_in
from tests.stacks.values import deployed, resources_of, stack_with, stage_for, template_of

SETTLED = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}
MAX_RECEIVES, VISIBILITY_S, POSTPONED_S, LONGEST_FUNCTION_S = 5, 5400, 900, 900
LONGEST_ANSWER_S, STALEST_WORD_S = 100, 10
POWER, SOURCES = "/assistant/pharmacy/power", "/assistant/pharmacy/power-sources"
QUEUE = "https://sqs/documents"
Happening = Callable[[], object]


@dataclass
class Message:
    visible_at_s: float
    receives: int = 0
    in_work_until_s: float = 0.0


@dataclass
class Execution:
    """One run of a machine: its outcome is its error, or ``SUCCEEDED``."""

    kind: str
    steps: Steps
    started_s: float
    events: Counter[str]
    outcome: str | None = None
    ended_s: float = 0.0
    last_status: str = ""
    calls: int = 0


@dataclass
class Stack:
    """``stands`` is whether the endpoints exist; during an update of them they do not."""

    stands: bool
    status: str = "UPDATE_COMPLETE"
    word: str = "on"
    updated_by: str = ""


@dataclass
class Tenant:
    """``stands_for`` and ``takes_work_for`` evaluate the templates' conditions for a power state."""

    definitions: Mapping[str, Mapping[str, Any]]
    stands_for: Callable[[str], bool]
    takes_work_for: Callable[[str], bool]
    chance: Random
    words: list[str] = field(default_factory=lambda: ["on"])
    now_s: float = 0.0
    failures: dict[str, float] = field(default_factory=dict)
    """Action = the share of its calls that fail."""
    update_fails: float = 0.0
    """Share of the machines' updates of endpoints that CloudFormation rolls back."""
    enabled: bool = True
    messages: list[Message] = field(default_factory=list)
    dead_letters: int = 0
    failed_calls: list[float] = field(default_factory=list)
    """When somebody called an endpoint that was not there."""
    executions: list[Execution] = field(default_factory=list)
    follow_ups: list[tuple[int, str]] = field(default_factory=list)
    """After so many calls of the machine that was started last, the next one is started."""
    blind_updates: int = 0
    """Updates that a machine asked for without having seen the stack settled."""
    _events: list[tuple[float, int, Happening]] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        word = self.words[-1]
        self.stack = Stack(stands=self.stands_for(word), word=word)
        self.enabled = self.takes_work_for(word)

    def at(self, time_s: float, happening: Happening) -> None:
        self._number += 1
        heapq.heappush(self._events, (max(time_s, self.now_s), self._number, happening))

    def after(self, least_s: float, most_s: float, happening: Happening) -> None:
        self.at(self.now_s + self.chance.uniform(least_s, most_s), happening)

    def run(self, *, until_s: float = float("inf")) -> None:
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, happening = heapq.heappop(self._events)
            happening()

    def start(self, kind: str) -> Execution:
        events: Counter[str] = Counter()
        steps = execute(self.definitions[kind], {}, {"Events": events})
        execution = Execution(kind=kind, steps=steps, started_s=self.now_s, events=events)
        self.executions.append(execution)
        self._go_on(execution, lambda: next(steps))
        return execution

    def _go_on(self, execution: Execution, step: Callable[[], Call | Pause]) -> None:
        try:
            wanted = step()
        except StopIteration:
            execution.outcome, execution.ended_s = "SUCCEEDED", self.now_s
            return
        except ExecutionFailedError as failure:
            execution.outcome, execution.ended_s = failure.error, self.now_s
            return
        if isinstance(wanted, Pause):
            self.at(
                self.now_s + wanted.seconds,
                lambda: self._go_on(execution, lambda: execution.steps.send(None)),
            )
        else:
            self.after(0.01, 1.0, lambda: self._perform(execution, wanted))

    def _perform(self, execution: Execution, call: Call) -> None:
        try:
            self._fail_by_chance(call)
            result = self._answer(execution, call)
        except CallFailedError as failure:
            failed = failure
            step: Callable[[], Call | Pause] = lambda: execution.steps.throw(failed)  # noqa: E731
        else:
            step = lambda: execution.steps.send(result)  # noqa: E731
        self.after(0.01, 1.0, lambda: self._go_on(execution, step))
        execution.calls += 1
        if self.follow_ups and execution is self.executions[-1] and execution.calls >= self.follow_ups[0][0]:
            self.start(self.follow_ups.pop(0)[1])

    def _fail_by_chance(self, call: Call) -> None:
        if self.chance.random() < self.failures.get(call.action, 0.0):
            raise CallFailedError(_FAULTS.get(call.action, "States.TaskFailed"), "Rate exceeded")

    def _answer(self, execution: Execution, call: Call) -> Any:
        given = call.parameters
        match call.action:
            case "ssm:getParameter":
                return self._get_parameter(given["Name"])
            case "ssm:putParameter":
                assert given["Name"] == POWER
                assert given["Overwrite"] is True
                self.words.append(given["Value"])
                return {"Version": len(self.words)}
            case "cloudformation:describeStacks":
                execution.last_status = self.stack.status
                return {"Stacks": [{"StackStatus": self.stack.status}]}
            case "cloudformation:updateStack":
                return self._update_asked(execution, given)
            case "lambda:updateEventSourceMapping":
                self.enabled = given["Enabled"]
                return {}
            case "sqs:getQueueAttributes":
                assert given["QueueUrl"] == QUEUE
                in_work = sum(message.in_work_until_s > self.now_s for message in self.messages)
                return {"Attributes": {"ApproximateNumberOfMessagesNotVisible": str(in_work)}}
            case other:
                raise NotImplementedError(other)

    def _get_parameter(self, name: str) -> Any:
        if name == SOURCES:
            return {"Parameter": {"Value": json.dumps({"event_sources": ["one"], "queues": [QUEUE]})}}
        plain, _, version = name.partition(":")
        assert plain == POWER
        number = int(version) if version else len(self.words)
        return {"Parameter": {"Value": self.words[number - 1], "Version": number}}

    def _update_asked(self, execution: Execution, given: Mapping[str, Any]) -> Any:
        assert given["UsePreviousTemplate"] is True
        assert all(kept["UsePreviousValue"] is True for kept in given["Parameters"])
        assert not given.keys() & {"TemplateBody", "TemplateURL"}
        self.blind_updates += execution.last_status not in SETTLED
        if self.stack.status not in SETTLED:
            said = f"Stack:s is in {self.stack.status} state and can not be updated."
            raise CallFailedError("CloudFormation.CloudFormationException", said)
        word = self.words[-1]
        # Whether a parameter's new value that changes no resource is an update at all is not documented.
        is_nothing = word == self.stack.word or self.chance.random() < 0.5
        changes = self.stands_for(word) != self.stack.stands
        if not changes and is_nothing:
            raise CallFailedError("CloudFormation.CloudFormationException", "No updates are to be performed.")
        fails = changes and self.chance.random() < self.update_fails
        self._begin_update("machine", word=word, fails=fails)
        return {"StackId": "s"}

    def _begin_update(self, who: str, *, word: str, fails: bool) -> None:
        """Delete the endpoints at an update's start or create them at its end: the worst case for callers."""
        before, stack = (self.stack.stands, self.stack.word), self.stack
        stands = self.stands_for(word)
        stack.status, stack.updated_by = "UPDATE_IN_PROGRESS", who
        stack.stands = before[0] and stands

        def end() -> None:
            stack.stands, stack.word = before if fails else (stands, word)
            stack.status = "UPDATE_ROLLBACK_COMPLETE" if fails else "UPDATE_COMPLETE"
            if who == "deploy" and not fails:
                self.after(0, 600, self._deploy_ingestion)

        self.after(20, 5400 if stands else 900, end)

    def deploy(self, *, fails: bool = False) -> bool:
        """Run ``cdk deploy``: models, then ingestion. CloudFormation refuses a stack during an update."""
        if self.stack.status not in SETTLED:
            return False
        self._begin_update("deploy", word=self.words[-1], fails=fails)
        return True

    def _deploy_ingestion(self) -> None:
        """Set the mapping's ``Enabled`` by the condition in the ingestion stack's template."""
        enabled = self.takes_work_for(self.words[-1])

        def end() -> None:
            self.enabled = enabled

        self.after(10, 300, end)

    def ask(self) -> None:
        """Ask a question. The task may have read the power state some seconds earlier."""
        self.at(
            self.now_s, lambda word=self.words[-1]: self.after(0, STALEST_WORD_S, lambda: self._ask(word))
        )

    def _ask(self, word: str) -> None:
        if word not in CLOSED:
            self._call()
            self.after(0, LONGEST_ANSWER_S, self._call)

    def _call(self) -> bool:
        if not self.stack.stands:
            self.failed_calls.append(self.now_s)
        return self.stack.stands

    def arrive(self) -> None:
        self.messages.append(Message(visible_at_s=self.now_s))

    def poll(self, *, until_s: float, every_s: float = 120.0) -> None:
        """Poll as the event source mapping does, one message per poll, repeatedly."""
        if self.enabled:
            visible = [message for message in self.messages if message.visible_at_s <= self.now_s]
            for message in visible[:1]:
                self._deliver(message)
        if self.now_s + every_s <= until_s:
            self.at(self.now_s + every_s, lambda: self.poll(until_s=until_s, every_s=every_s))

    def _deliver(self, message: Message) -> None:
        """Run the function: it reads the power state, then calls the endpoint or sends the message again."""
        if message.receives == MAX_RECEIVES:
            self.messages.remove(message)
            self.dead_letters += 1
            return
        message.receives += 1
        message.visible_at_s = self.now_s + VISIBILITY_S
        if self.words[-1] in CLOSED:
            self.messages.remove(message)
            self.messages.append(Message(visible_at_s=self.now_s + POSTPONED_S))
            return
        message.in_work_until_s = self.now_s + self.chance.uniform(1, LONGEST_FUNCTION_S)

        def end() -> None:
            message.in_work_until_s = 0.0
            if self._call():
                self.messages.remove(message)

        self.at(message.in_work_until_s, end)

    @property
    def word(self) -> str:
        return self.words[-1]

    def is_consistent(self) -> bool:
        """Return whether power state, endpoints and event sources agree on ``on`` or ``paused``."""
        on = self.word == "on"
        return self.word in ("on", PAUSED) and (self.stack.stands, self.enabled) == (on, on)


_FAULTS = {"lambda:updateEventSourceMapping": "Lambda.ResourceInUseException"}


def tenant_of(chance: Random, *, word: str = ON) -> Tenant:
    """Return a simulated tenant with the conditions of its templates."""
    template = models_template()
    (stands,) = {body["Condition"] for body in resources_of(template, "AWS::SageMaker::Endpoint").values()}
    return Tenant(
        definitions=machines(),
        stands_for=lambda asked: _holds(template["Conditions"][stands], word=asked),
        takes_work_for=lambda asked: _holds(_condition_of_sources(), word=asked),
        chance=chance,
        words=[word],
    )


@cache
def models_template() -> dict[str, Any]:
    tenant = deployed("pharmacy")
    stage = stage_for(tenant)
    return template_of(stack_with(ModelsStack, tenant, stage=stage))


@cache
def machines() -> Mapping[str, Mapping[str, Any]]:
    """Return the two definitions, with what CloudFormation puts into them."""
    found = resources_of(models_template(), "AWS::StepFunctions::StateMachine")
    assert len(found) == 2
    return {
        kind: json.loads(_text(body["Properties"]["DefinitionString"]))
        for name, body in found.items()
        for kind in ("pause", "resume")
        if kind.capitalize() in name
    }


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if "Fn::Join" in value:
        separator, parts = value["Fn::Join"]
        return separator.join(_text(part) for part in parts)
    return {"AWS::Partition": "aws", "AWS::StackId": "stack-id"}[value["Ref"]]


def _holds(condition: Any, *, word: str) -> bool:
    """Evaluate a condition of a template for a power state."""
    match condition:
        case {"Fn::Not": [inner]}:
            return not _holds(inner, word=word)
        case {"Fn::Or": parts}:
            return any(_holds(part, word=word) for part in parts)
        case {"Fn::Equals": [{"Ref": "Power"}, wanted]}:
            return word == wanted
    raise NotImplementedError(condition)


@cache
def _condition_of_sources() -> Any:
    """Return the condition of ``Enabled`` of the ingestion stack's event source mappings."""
    tenant = deployed("pharmacy")
    stack = TenantStack(stage_for(tenant), "Sources", tenant=tenant, data_class="internal")
    switch = PowerSwitch(stack, "Switch")
    lambda_.CfnEventSourceMapping(stack, "Source", function_name="f", enabled=switch.enabled)
    template = template_of(stack)
    (source,) = resources_of(template, "AWS::Lambda::EventSourceMapping").values()
    name, *choice = source["Properties"]["Enabled"]["Fn::If"]
    assert choice == [True, False]
    return template["Conditions"][name]


def switched(tenant: Tenant, kind: str) -> str | None:
    """Run a state machine and every event that follows; return its outcome."""
    execution = tenant.start(kind)
    tenant.run()
    return execution.outcome


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
