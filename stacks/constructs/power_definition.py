"""What the two power machines do, as a Step Functions definition.

Both are one reconciliation; only the word that they put at the beginning differs. The parameter is what is
wanted. Each round reads it, acts on the word it found, and reads it again: was it written meanwhile, another
round follows. So two machines may run at once, in any order, and what was asked for last stands in the end.

- ``paused``: sources of work stop, work in progress ends, the stack is updated.
- ``resuming``: the stack is updated, sources start, the word becomes ``on``.

The stack is updated only with its previous template and parameters, and only when no update of it runs.
Nothing waits without a bound, and what fails says so and leaves the service usable or cleanly paused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from assistant.settings.power_words import ON, PAUSED, RESUMING
from stacks.constructs import power_states as states
from stacks.constructs.power_states import SETTLED, State

ROUNDS = 3
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
LONGEST_S = 3 * 24 * 3600
"""Over all bounds together: it never cuts a machine off between two steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerDefinition:
    """``parameters`` are the names of the stack's own, all of which an update keeps."""

    partition: str
    stack_id: str
    parameters: Sequence[str]
    power_parameter: str
    sources_parameter: str

    def asking_for(self, word: str) -> dict[str, Any]:
        """Return the definition of the machine that puts ``word`` (paused, resuming) and brings it about."""
        return {
            "Comment": f"Brings the endpoints to: {word}",
            "StartAt": "Ask",
            "TimeoutSeconds": LONGEST_S,
            "States": {
                "Ask": self._put(word, then="Begin"),
                "Begin": states.numbers(_ZERO, then="NextRound"),
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
            "NextRound": states.numbers(_ZERO | states.counted("round"), then="RoundsLeft"),
            "RoundsLeft": states.choice(
                {"Variable": "$.n.round", "NumericGreaterThan": ROUNDS, "Next": "Restless"}, otherwise="Look"
            ),
            "Restless": states.fail(
                "Restless", "Others asked for something else again and again; what they asked for stands."
            ),
            **self._wait_for_stack("Look", settled="Read", poll_s=DEPLOY_POLL_S, polls=DEPLOY_POLLS),
            "Read": self._read("$.seen", then="Wanted"),
            "Wanted": states.choice(
                {"Variable": "$.seen.word", "StringEquals": PAUSED, "Next": "FindSourcesToStop"},
                {"Variable": "$.seen.word", "StringEquals": RESUMING, "Next": "LookBeforeUpdate"},
                {"Variable": "$.seen.word", "StringEquals": ON, "Next": "LookBeforeUpdate"},
                otherwise="UnknownWord",
            ),
            "UnknownWord": states.fail("UnknownWord", f"{self.power_parameter} is no word of the switch."),
        }

    def _wait_for_stack(self, look: str, *, settled: str, poll_s: int, polls: int) -> dict[str, State]:
        return {
            look: self._describe(then=f"{look}Settled"),
            f"{look}Settled": states.choice(
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
            f"{look}Count": states.numbers(states.counted("polls"), then=look),
        }

    def _pause(self) -> dict[str, State]:
        """Stop the sources of work and let what is in progress end."""
        return {
            **self._find_sources("FindSourcesToStop", then="StopSources"),
            "StopSources": self._each_source(enabled=False, then="AnswersEnd", failed="GiveUp"),
            "AnswersEnd": {"Type": "Wait", "Seconds": ANSWERS_S, "Next": "Drain"},
            "Drain": states.drained_queues(
                self._resource("sqs", "getQueueAttributes"),
                poll_s=DRAIN_POLL_S,
                polls=DRAIN_POLLS,
                then="StillWanted",
            ),
            "StillWanted": self._read("$.now", then="StillTheSame"),
            "StillTheSame": states.same_version(then="LookBeforeUpdate", otherwise="NextRound"),
        }

    def _update(self) -> dict[str, State]:
        """Update the stack as it is; CloudFormation reads the word anew."""
        return {
            **self._wait_for_stack(
                "LookBeforeUpdate", settled="Update", poll_s=DEPLOY_POLL_S, polls=DEPLOY_POLLS
            ),
            "Update": self._update_stack(then="Updating", refused="Refused"),
            "Refused": states.choice(
                {"Variable": "$.error.Cause", "StringMatches": "*No updates are to be*", "Next": "Confirm"},
                {"Variable": "$.error.Cause", "StringMatches": "*_IN_PROGRESS*", "Next": "CountRefusal"},
                otherwise="CountUpdate",
            ),
            "CountRefusal": states.numbers(states.counted("polls"), then="LookBeforeUpdate"),
            "Updating": states.numbers({"polls": 0}, then="Watch"),
            "Watch": {"Type": "Wait", "Seconds": UPDATE_POLL_S, "Next": "LookAtUpdate"},
            "LookAtUpdate": self._describe(then="Updated"),
            "Updated": states.choice(
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
            "CountWatch": states.numbers(states.counted("polls"), then="Watch"),
            "CountUpdate": states.numbers(states.counted("updates"), then="UpdatesLeft"),
            "UpdatesLeft": states.choice(
                {"Variable": "$.n.updates", "NumericLessThan": UPDATES, "Next": "BeforeRetry"},
                otherwise="GiveUp",
            ),
            "BeforeRetry": {"Type": "Wait", "Seconds": RETRY_UPDATE_S, "Next": "StillWanted"},
            "DeployTooLong": states.fail("DeployTooLong", "Another update of the stack did not end."),
            "StackNeedsRepair": states.fail(
                "StackNeedsRepair", "The stack is in a state that only a person mends (docs/runbook.md)."
            ),
        }

    def _confirm(self) -> dict[str, State]:
        """Nothing else was asked for meanwhile: then this is done, or work begins again."""
        return {
            "Confirm": self._read("$.now", then="Confirmed"),
            "Confirmed": states.same_version(then="Done", otherwise="NextRound"),
            "Done": states.choice(
                {"Variable": "$.seen.word", "StringEquals": PAUSED, "Next": "Succeeded"},
                otherwise="FindSourcesToStart",
            ),
            **self._find_sources("FindSourcesToStart", then="StartSources"),
            "StartSources": self._each_source(enabled=True, then="MustSay", failed="SourcesFailed"),
            "SourcesFailed": states.numbers(states.counted("failed"), then="MustSay"),
            "MustSay": states.choice(
                {"Variable": "$.seen.word", "StringEquals": ON, "Next": "Outcome"}, otherwise="SayOn"
            ),
            "GiveUp": states.numbers(states.counted("failed"), then="IsItStillWanted"),
            "IsItStillWanted": self._read("$.now", then="GivenUp"),
            "GivenUp": states.same_version(then="GoBack", otherwise="NextRound"),
            "GoBack": states.choice(
                {"Variable": "$.seen.word", "StringEquals": PAUSED, "Next": "FindSourcesToStart"},
                {"Variable": "$.seen.word", "StringEquals": RESUMING, "Next": "SayPaused"},
                otherwise="Failed",
            ),
        }

    def _say(self) -> dict[str, State]:
        """Write the word that was reached. Had somebody written one after it was read last, SSM's version
        numbers show it, and theirs is put back."""
        return {
            "SayOn": self._put(ON, then="Expect"),
            "SayPaused": self._put(PAUSED, then="Expect"),
            "Expect": _next_version("$.now.version", then="Written"),
            "Written": _is_expected(then="Outcome", otherwise="Overwritten"),
            "Overwritten": self._read(
                "$.lost", version="States.MathAdd($.said.version, -1)", then="ExpectBack"
            ),
            "ExpectBack": _next_version("$.said.version", then="PutBack"),
            "PutBack": self._put("$.lost.word", then="PutBackAsExpected"),
            "PutBackAsExpected": _is_expected(then="NextRound", otherwise="CountRepair"),
            "CountRepair": states.numbers(states.counted("repairs"), then="RepairsLeft"),
            "RepairsLeft": states.choice(
                {"Variable": "$.n.repairs", "NumericLessThan": REPAIRS, "Next": "Overwritten"},
                otherwise="Restless",
            ),
            "Outcome": states.choice(
                {"Variable": "$.n.failed", "NumericEquals": 0, "Next": "Succeeded"}, otherwise="Failed"
            ),
            "Succeeded": {"Type": "Succeed"},
            "Failed": states.fail(
                "NotDone", "The stack was not updated, or sources of work did not start; see its events."
            ),
        }

    def _resource(self, service: str, action: str) -> str:
        return f"arn:{self.partition}:states:::aws-sdk:{service}:{action}"

    def _describe(self, *, then: str) -> State:
        return states.call(
            self._resource("cloudformation", "describeStacks"),
            parameters={"StackName": self.stack_id},
            ResultSelector={"status.$": "$.Stacks[0].StackStatus"},
            ResultPath="$.stack",
            Retry=states.TRIES,
            Next=then,
        )

    def _update_stack(self, *, then: str, refused: str) -> State:
        kept = [{"ParameterKey": name, "UsePreviousValue": True} for name in self.parameters]
        return states.call(
            self._resource("cloudformation", "updateStack"),
            parameters={
                "StackName": self.stack_id,
                "UsePreviousTemplate": True,
                "Parameters": kept,
                "Capabilities": ["CAPABILITY_NAMED_IAM"],
            },
            ResultPath=None,
            Catch=[{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": refused}],
            Next=then,
        )

    def _put(self, word: str, *, then: str) -> State:
        value = {"Value.$": word} if word.startswith("$") else {"Value": word}
        return states.call(
            self._resource("ssm", "putParameter"),
            parameters={"Name": self.power_parameter, "Overwrite": True, **value},
            ResultSelector={"version.$": "$.Version"},
            ResultPath="$.said",
            Retry=states.TRIES,
            Next=then,
        )

    def _read(self, into: str, *, then: str, version: str | None = None) -> State:
        name: State = {"Name": self.power_parameter}
        if version is not None:
            name = {"Name.$": f"States.Format('{self.power_parameter}:{{}}', {version})"}
        return states.call(
            self._resource("ssm", "getParameter"),
            parameters=name,
            ResultSelector={"word.$": "$.Parameter.Value", "version.$": "$.Parameter.Version"},
            ResultPath=into,
            Retry=states.TRIES,
            Next=then,
        )

    def _find_sources(self, name: str, *, then: str) -> dict[str, State]:
        return {
            name: states.call(
                self._resource("ssm", "getParameter"),
                parameters={"Name": self.sources_parameter},
                ResultSelector={"sources.$": "States.StringToJson($.Parameter.Value)"},
                ResultPath="$.work",
                Retry=[{**states.TRIES[0], "ErrorEquals": ["Ssm.InternalServerErrorException"]}],
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

    def _each_source(self, *, enabled: bool, then: str, failed: str) -> State:
        return states.each_source(
            self._resource("lambda", "updateEventSourceMapping"), enabled=enabled, then=then, failed=failed
        )


_ZERO: dict[str, int | str] = {"round": 0, "polls": 0, "updates": 0, "repairs": 0, "failed": 0}


def _next_version(version: str, *, then: str) -> State:
    return {
        "Type": "Pass",
        "Parameters": {"version.$": f"States.MathAdd({version}, 1)"},
        "ResultPath": "$.expected",
        "Next": then,
    }


def _is_expected(*, then: str, otherwise: str) -> State:
    return states.choice(
        {"Variable": "$.said.version", "NumericEqualsPath": "$.expected.version", "Next": then},
        otherwise=otherwise,
    )
