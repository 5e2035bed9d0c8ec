"""Single states of the power machines, as Amazon States Language has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assistant.settings.deployed_names import ON, PAUSED, PAUSING, RESUMING

State = dict[str, Any]

SETTLED = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE")
"""States of a stack that CloudFormation may update."""
TRIES: list[State] = [
    {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 5, "MaxAttempts": 4, "BackoffRate": 3.0}
]
"""Of calls that may be repeated: over three minutes a throttle or a fault passes."""
_COUNTERS = ("round", "polls", "updates", "repairs", "failed")


def call(resource: str, *, parameters: State, **rest: Any) -> State:
    """Return a call of an AWS API."""
    return {"Type": "Task", "Resource": resource, "Parameters": parameters, **rest}


def choice(*rules: Mapping[str, Any], otherwise: str) -> State:
    return {"Type": "Choice", "Choices": [dict(rule) for rule in rules], "Default": otherwise}


def fail(error: str, cause: str) -> State:
    return {"Type": "Fail", "Error": error, "Cause": cause}


def numbers(changed: Mapping[str, int | str], *, then: str) -> State:
    """Set counters under ``$.n`` to a number, or by an intrinsic function; the others stay."""
    parameters: State = {}
    for name in _COUNTERS:
        value = changed.get(name, f"$.n.{name}")
        parameters[name if isinstance(value, int) else f"{name}.$"] = value
    return {"Type": "Pass", "Parameters": parameters, "ResultPath": "$.n", "Next": then}


def counted(name: str) -> dict[str, int | str]:
    return {name: f"States.MathAdd($.n.{name}, 1)"}


def same_version(*, then: str, otherwise: str) -> State:
    """Whether nobody wrote the word since the round began."""
    return choice(
        {"Variable": "$.now.version", "NumericEqualsPath": "$.seen.version", "Next": then},
        otherwise=otherwise,
    )


def each_source(resource: str, *, enabled: bool, then: str, failed: str) -> State:
    """Enable or disable every event source mapping; one that is gone is passed over."""
    setting = call(
        resource,
        parameters={"Uuid.$": "$", "Enabled": enabled},
        Retry=[{**TRIES[0], "ErrorEquals": _TRANSIENT}],
        Catch=[{"ErrorEquals": ["Lambda.ResourceNotFoundException"], "Next": "Gone"}],
        End=True,
    )
    return {
        "Type": "Map",
        "ItemsPath": "$.work.sources.event_sources",
        "MaxConcurrency": 1,
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "INLINE"},
            "StartAt": "Set",
            "States": {"Set": setting, "Gone": {"Type": "Succeed"}},
        },
        "ResultPath": "$.done",  # CDK leaves a null out, and the result would be all that is left
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": failed}],
        "Next": then,
    }


_TRANSIENT = [
    "Lambda.ResourceInUseException",
    "Lambda.ResourceConflictException",
    "Lambda.TooManyRequestsException",
    "Lambda.ServiceException",
    "Lambda.SdkClientException",
]


def drained_queues(resource: str, *, poll_s: int, polls: int, then: str) -> State:
    """Wait until no message of any queue is being worked on."""
    count = call(
        resource,
        parameters={
            "QueueUrl.$": "$.url",
            "AttributeNames": ["ApproximateNumberOfMessagesNotVisible"],
        },
        ResultSelector={"in_work.$": "$.Attributes.ApproximateNumberOfMessagesNotVisible"},
        ResultPath="$.queue",
        Retry=TRIES,
        Next="Empty",
    )
    return {
        "Type": "Map",
        "ItemsPath": "$.work.sources.queues",
        "ItemSelector": {"url.$": "$$.Map.Item.Value", "polls": 0},
        "MaxConcurrency": 1,
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "INLINE"},
            "StartAt": "Count",
            "States": {
                "Count": count,
                "Empty": choice(
                    {"Variable": "$.queue.in_work", "StringEquals": "0", "Next": "Drained"},
                    # What is still in work then is no function's; it comes back to the queue by itself.
                    {"Variable": "$.polls", "NumericGreaterThanEquals": polls, "Next": "Drained"},
                    otherwise="WaitForWork",
                ),
                "WaitForWork": {"Type": "Wait", "Seconds": poll_s, "Next": "CountPoll"},
                "CountPoll": {
                    "Type": "Pass",
                    "Parameters": {"url.$": "$.url", "polls.$": "States.MathAdd($.polls, 1)"},
                    "Next": "Count",
                },
                "Drained": {"Type": "Succeed"},
            },
        },
        "ResultPath": "$.done",  # CDK leaves a null out, and the result would be all that is left
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": then}],
        "Next": then,
    }


# The calls of AWS APIs that the power machines are made of.


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCalls:
    """``parameters`` are the names of the stack's own, all of which an update keeps."""

    partition: str
    stack_id: str
    parameters: Sequence[str]
    power_parameter: str
    sources_parameter: str

    def _resource(self, service: str, action: str) -> str:
        return f"arn:{self.partition}:states:::aws-sdk:{service}:{action}"

    def describe(self, *, then: str) -> State:
        """Put the stack's status into ``$.stack.status``."""
        return call(
            self._resource("cloudformation", "describeStacks"),
            parameters={"StackName": self.stack_id},
            ResultSelector={"status.$": "$.Stacks[0].StackStatus"},
            ResultPath="$.stack",
            Retry=TRIES,
            Next=then,
        )

    def update_stack(self, *, then: str, refused: str) -> State:
        """Update the stack as it is. What CloudFormation says against it is in ``$.error.Cause``."""
        kept = [{"ParameterKey": name, "UsePreviousValue": True} for name in self.parameters]
        return call(
            self._resource("cloudformation", "updateStack"),
            parameters={
                "StackName": self.stack_id,
                "UsePreviousTemplate": True,
                "Parameters": kept,
                "Capabilities": ["CAPABILITY_NAMED_IAM"],
            },
            ResultPath="$.done",
            Catch=[{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": refused}],
            Next=then,
        )

    def put(self, word: str, *, then: str) -> State:
        """Write a word, given or at a path; its version is in ``$.said.version``."""
        value = {"Value.$": word} if word.startswith("$") else {"Value": word}
        return call(
            self._resource("ssm", "putParameter"),
            parameters={"Name": self.power_parameter, "Overwrite": True, **value},
            ResultSelector={"version.$": "$.Version"},
            ResultPath="$.said",
            Retry=TRIES,
            Next=then,
        )

    def read(self, into: str, *, then: str, version: str | None = None) -> State:
        """Read the word and its version, or the word of an earlier version."""
        name: State = {"Name": self.power_parameter}
        if version is not None:
            name = {"Name.$": f"States.Format('{self.power_parameter}:{{}}', {version})"}
        return call(
            self._resource("ssm", "getParameter"),
            parameters=name,
            ResultSelector={"word.$": "$.Parameter.Value", "version.$": "$.Parameter.Version"},
            ResultPath=into,
            Retry=TRIES,
            Next=then,
        )

    def find_sources(self, name: str, *, then: str) -> dict[str, State]:
        """Put what the ingestion stack wrote of itself into ``$.work.sources``."""
        return {
            name: call(
                self._resource("ssm", "getParameter"),
                parameters={"Name": self.sources_parameter},
                ResultSelector={"sources.$": "States.StringToJson($.Parameter.Value)"},
                ResultPath="$.work",
                Retry=[{**TRIES[0], "ErrorEquals": ["Ssm.InternalServerErrorException"]}],
                # Before the first deployment of the ingestion stack there is none.
                Catch=[
                    {
                        "ErrorEquals": ["Ssm.ParameterNotFoundException"],
                        "ResultPath": "$.error",
                        "Next": f"{name}None",
                    }
                ],
                Next=then,
            ),
            f"{name}None": {
                "Type": "Pass",
                "Result": {"sources": {"event_sources": [], "queues": []}},
                "ResultPath": "$.work",
                "Next": then,
            },
        }

    def drained_queues(self, *, poll_s: int, polls: int, then: str) -> State:
        """Wait until no message of any queue is in work, but not longer than the polls."""
        return drained_queues(
            self._resource("sqs", "getQueueAttributes"), poll_s=poll_s, polls=polls, then=then
        )

    def each_source(self, *, enabled: bool, then: str, failed: str) -> State:
        """Start or stop every source of work."""
        return each_source(
            self._resource("lambda", "updateEventSourceMapping"), enabled=enabled, then=then, failed=failed
        )


# What the two power machines do, as a Step Functions definition.


ROUNDS = 4
"""Requests that may overtake one machine before it gives up."""
DEPLOY_POLL_S = 300
DEPLOY_POLLS = 48
"""Four hours: what SageMaker is allowed for one deployment of an endpoint."""
UPDATE_POLL_S = 60
UPDATE_POLLS = 180
"""Three hours: a resume waits for capacity, downloads and loads."""
UPDATES = 2
"""Of one round: capacity that is not there now may be there soon."""
REPAIRS = 4
"""Requests that come within the milliseconds of writing a word."""
RETRY_UPDATE_S = 600
ANSWERS_S = 120
"""The longest answer takes 100 s, and the service reads the word every 5 s."""
DRAIN_POLL_S = 60
DRAIN_POLLS = 20
"""A function runs for 15 minutes at most."""
LONGEST_S = 4 * 24 * 3600
"""Over all bounds together: it never cuts a machine off between two steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerDefinition:
    calls: PowerCalls

    def asking_for(self, word: str) -> dict[str, Any]:
        """Return the definition of the machine that puts ``word`` (pausing, resuming) and brings it about."""
        return {
            "Comment": f"Brings the endpoints to: {word}",
            "StartAt": "Peek",
            "TimeoutSeconds": LONGEST_S,
            "States": {
                "Peek": self.calls.read("$.seen", then="IsItAsked"),
                "IsItAsked": choice(
                    *(
                        {"Variable": "$.seen.word", "StringEquals": same, "Next": "Begin"}
                        for same in (word, _REACHED[word])
                    ),
                    otherwise="Ask",
                ),
                "Ask": self.calls.put(word, then="Begin"),
                "Begin": numbers(_ZERO, then="NextRound"),
                **self._round(),
                **self._pause(),
                **self._update(),
                **self._confirm(),
                **self._say(),
            },
        }

    def _round(self) -> dict[str, State]:
        """Wait until no deployment runs, and read what is wanted."""
        return {
            "NextRound": numbers(_ZERO | counted("round"), then="RoundsLeft"),
            "RoundsLeft": choice(
                {"Variable": "$.n.round", "NumericGreaterThan": ROUNDS, "Next": "Restless"}, otherwise="Look"
            ),
            "Restless": fail(
                "Restless", "Others asked for something else again and again; what they asked for stands."
            ),
            **self._wait_for_stack("Look", settled="Read", poll_s=DEPLOY_POLL_S, polls=DEPLOY_POLLS),
            "Read": self.calls.read("$.seen", then="Wanted"),
            "Wanted": choice(
                {"Variable": "$.seen.word", "StringEquals": PAUSING, "Next": "FindSourcesToStop"},
                {"Variable": "$.seen.word", "StringEquals": PAUSED, "Next": "FindSourcesToStop"},
                {"Variable": "$.seen.word", "StringEquals": RESUMING, "Next": "LookBeforeUpdate"},
                {"Variable": "$.seen.word", "StringEquals": ON, "Next": "LookBeforeUpdate"},
                otherwise="UnknownWord",
            ),
            "UnknownWord": fail("UnknownWord", f"{self.calls.power_parameter} is no word of the switch."),
        }

    def _wait_for_stack(self, look: str, *, settled: str, poll_s: int, polls: int) -> dict[str, State]:
        return {
            look: self.calls.describe(then=f"{look}Settled"),
            f"{look}Settled": choice(
                *({"Variable": "$.stack.status", "StringEquals": s, "Next": settled} for s in SETTLED),
                {
                    "And": [
                        {"Variable": "$.stack.status", "StringMatches": "*_IN_PROGRESS"},
                        {"Variable": "$.n.polls", "NumericLessThan": polls},
                    ],
                    "Next": f"{look}Wait",
                },
                {"Variable": "$.stack.status", "StringMatches": "*_IN_PROGRESS", "Next": "DeployTooLong"},
                otherwise="StackNeedsRepair",
            ),
            f"{look}Wait": {"Type": "Wait", "Seconds": poll_s, "Next": f"{look}Count"},
            f"{look}Count": numbers(counted("polls"), then=look),
        }

    def _pause(self) -> dict[str, State]:
        """Stop the sources of work and let what is in progress end."""
        return {
            **self.calls.find_sources("FindSourcesToStop", then="StopSources"),
            "StopSources": self.calls.each_source(enabled=False, then="AnswersEnd", failed="GiveUp"),
            "AnswersEnd": {"Type": "Wait", "Seconds": ANSWERS_S, "Next": "Drain"},
            "Drain": self.calls.drained_queues(
                poll_s=DRAIN_POLL_S,
                polls=DRAIN_POLLS,
                then="Quiet",
            ),
            "Quiet": self.calls.read("$.now", then="StillQuiet"),
            "StillQuiet": same_version(then="WhichPause", otherwise="NextRound"),
            "WhichPause": choice(
                {"Variable": "$.seen.word", "StringEquals": PAUSED, "Next": "LookBeforeUpdate"},
                otherwise="SayQuiet",
            ),
            "SayQuiet": self.calls.put(PAUSED, then="ExpectQuiet"),
            "ExpectQuiet": _next_version("$.now.version", then="QuietWritten"),
            "QuietWritten": _is_expected(then="Adopt", otherwise="Overwritten"),
            "Adopt": {
                "Type": "Pass",
                "Parameters": {"word": PAUSED, "version.$": "$.said.version"},
                "ResultPath": "$.seen",
                "Next": "LookBeforeUpdate",
            },
        }

    def _update(self) -> dict[str, State]:
        """Update the stack as it is; CloudFormation reads the word anew."""
        return {
            **self._wait_for_stack(
                "LookBeforeUpdate", settled="StillWanted", poll_s=DEPLOY_POLL_S, polls=DEPLOY_POLLS
            ),
            "StillWanted": self.calls.read("$.now", then="StillTheSame"),
            "StillTheSame": same_version(then="Update", otherwise="NextRound"),
            "Update": self.calls.update_stack(then="Updating", refused="Refused"),
            "Refused": choice(
                {"Variable": "$.error.Cause", "StringMatches": "*No updates are to be*", "Next": "Confirm"},
                {"Variable": "$.error.Cause", "StringMatches": "*_IN_PROGRESS*", "Next": "CountRefusal"},
                otherwise="CountUpdate",
            ),
            "CountRefusal": numbers(counted("polls"), then="LookBeforeUpdate"),
            "Updating": numbers({"polls": 0}, then="Watch"),
            "Watch": {"Type": "Wait", "Seconds": UPDATE_POLL_S, "Next": "LookAtUpdate"},
            "LookAtUpdate": self.calls.describe(then="Updated"),
            "Updated": choice(
                {"Variable": "$.stack.status", "StringEquals": "UPDATE_COMPLETE", "Next": "Confirm"},
                {
                    "And": [
                        {"Variable": "$.stack.status", "StringMatches": "*_IN_PROGRESS"},
                        {"Variable": "$.n.polls", "NumericLessThan": UPDATE_POLLS},
                    ],
                    "Next": "CountWatch",
                },
                {
                    "Variable": "$.stack.status",
                    "StringEquals": "UPDATE_ROLLBACK_COMPLETE",
                    "Next": "CountUpdate",
                },
                {"Variable": "$.stack.status", "StringMatches": "*_IN_PROGRESS", "Next": "DeployTooLong"},
                otherwise="StackNeedsRepair",
            ),
            "CountWatch": numbers(counted("polls"), then="Watch"),
            "CountUpdate": numbers(counted("updates"), then="UpdatesLeft"),
            "UpdatesLeft": choice(
                {"Variable": "$.n.updates", "NumericLessThan": UPDATES, "Next": "BeforeRetry"},
                otherwise="GiveUp",
            ),
            "BeforeRetry": {"Type": "Wait", "Seconds": RETRY_UPDATE_S, "Next": "LookBeforeUpdate"},
            "DeployTooLong": fail("DeployTooLong", "Another update of the stack did not end."),
            "StackNeedsRepair": fail(
                "StackNeedsRepair", "The stack is in a state that only a person mends (docs/runbook.md)."
            ),
        }

    def _confirm(self) -> dict[str, State]:
        """Nothing else was asked for meanwhile: then this is done, or work begins again."""
        return {
            "Confirm": self.calls.read("$.now", then="Confirmed"),
            "Confirmed": same_version(then="Done", otherwise="NextRound"),
            "Done": choice(
                {"Variable": "$.seen.word", "StringEquals": PAUSED, "Next": "Succeeded"},
                otherwise="FindSourcesToStart",
            ),
            **self.calls.find_sources("FindSourcesToStart", then="StartSources"),
            "StartSources": self.calls.each_source(enabled=True, then="MustSay", failed="SourcesFailed"),
            "SourcesFailed": numbers(counted("failed"), then="MustSay"),
            "MustSay": choice(
                {"Variable": "$.seen.word", "StringEquals": ON, "Next": "StillOn"}, otherwise="SayOn"
            ),
            # A pause may have stopped the sources just before this machine started them.
            "StillOn": self.calls.read("$.now", then="StayedOn"),
            "StayedOn": same_version(then="Outcome", otherwise="NextRound"),
            "GiveUp": numbers(counted("failed"), then="IsItStillWanted"),
            "IsItStillWanted": self.calls.read("$.now", then="GivenUp"),
            "GivenUp": same_version(then="GoBack", otherwise="NextRound"),
            "GoBack": choice(
                {"Variable": "$.seen.word", "StringEquals": RESUMING, "Next": "SayPaused"},
                {"Variable": "$.seen.word", "StringEquals": ON, "Next": "Failed"},
                # An earlier pause may have taken the endpoints away: only an update shows that they stand.
                otherwise="SayResuming",
            ),
            "SayResuming": self.calls.put(RESUMING, then="ExpectResuming"),
            "ExpectResuming": _next_version("$.now.version", then="ResumingWritten"),
            "ResumingWritten": _is_expected(then="RoundBack", otherwise="Overwritten"),
            # As NextRound, but what failed stays counted: the machine does not end as one that succeeded.
            "RoundBack": numbers(
                {"polls": 0, "updates": 0, "repairs": 0} | counted("round"), then="RoundsLeft"
            ),
        }

    def _say(self) -> dict[str, State]:
        """Write the word that was reached. Had somebody written one after it was read last, SSM's version
        numbers show it, and theirs is put back."""
        return {
            "SayOn": self.calls.put(ON, then="Expect"),
            "SayPaused": self.calls.put(PAUSED, then="Expect"),
            "Expect": _next_version("$.now.version", then="Written"),
            "Written": _is_expected(then="Outcome", otherwise="Overwritten"),
            "Overwritten": self.calls.read(
                "$.lost", version="States.MathAdd($.said.version, -1)", then="IsItLost"
            ),
            # A machine's own result is no request: only what was asked for is put back.
            "IsItLost": choice(
                {"Variable": "$.lost.word", "StringEquals": PAUSING, "Next": "ExpectBack"},
                {"Variable": "$.lost.word", "StringEquals": RESUMING, "Next": "ExpectBack"},
                otherwise="NextRound",
            ),
            "ExpectBack": _next_version("$.said.version", then="PutBack"),
            "PutBack": self.calls.put("$.lost.word", then="PutBackAsExpected"),
            "PutBackAsExpected": _is_expected(then="NextRound", otherwise="CountRepair"),
            "CountRepair": numbers(counted("repairs"), then="RepairsLeft"),
            "RepairsLeft": choice(
                {"Variable": "$.n.repairs", "NumericLessThan": REPAIRS, "Next": "Overwritten"},
                otherwise="Restless",
            ),
            "Outcome": choice(
                {"Variable": "$.n.failed", "NumericEquals": 0, "Next": "Succeeded"}, otherwise="Failed"
            ),
            "Succeeded": {"Type": "Succeed"},
            "Failed": fail(
                "NotDone", "The stack was not updated, or sources of work did not start; see its events."
            ),
        }


_REACHED = {PAUSING: PAUSED, RESUMING: ON}
_ZERO: dict[str, int | str] = {"round": 0, "polls": 0, "updates": 0, "repairs": 0, "failed": 0}


def _next_version(version: str, *, then: str) -> State:
    """Note the version that the word just written has unless somebody else wrote one before it."""
    return {
        "Type": "Pass",
        "Parameters": {"version.$": f"States.MathAdd({version}, 1)"},
        "ResultPath": "$.expected",
        "Next": then,
    }


def _is_expected(*, then: str, otherwise: str) -> State:
    return choice(
        {"Variable": "$.said.version", "NumericEqualsPath": "$.expected.version", "Next": then},
        otherwise=otherwise,
    )
