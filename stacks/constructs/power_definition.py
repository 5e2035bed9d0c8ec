"""What the two power machines do, as a Step Functions definition.

Both are one reconciliation; only the word that they put at the beginning differs. The parameter is what is
wanted. Each round reads it, acts on the word it found, and reads it again: was it written meanwhile, another
round follows. So two machines may run at once, in any order, and what was asked for last stands in the end.

- ``pausing``: sources of work stop, work in progress ends, then the word becomes ``paused``.
- ``paused``: the stack is updated, which takes the endpoints away. No other word does that, so no deployment
  and no other machine takes them from under work in progress.
- ``resuming``: the stack is updated, sources start, the word becomes ``on``. A pause that gives up asks for
  this, because an earlier one may have taken the endpoints away.

The stack is updated only with its previous template and parameters, and only when no update of it runs.
Nothing waits without a bound, and what fails says so and leaves the service usable or cleanly paused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assistant.settings.deployed_names import ON, PAUSED, PAUSING, RESUMING
from stacks.constructs import power_states as states
from stacks.constructs.power_calls import PowerCalls
from stacks.constructs.power_states import SETTLED, State

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
                "IsItAsked": states.choice(
                    *(
                        {"Variable": "$.seen.word", "StringEquals": same, "Next": "Begin"}
                        for same in (word, _REACHED[word])
                    ),
                    otherwise="Ask",
                ),
                "Ask": self.calls.put(word, then="Begin"),
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
            "Read": self.calls.read("$.seen", then="Wanted"),
            "Wanted": states.choice(
                {"Variable": "$.seen.word", "StringEquals": PAUSING, "Next": "FindSourcesToStop"},
                {"Variable": "$.seen.word", "StringEquals": PAUSED, "Next": "FindSourcesToStop"},
                {"Variable": "$.seen.word", "StringEquals": RESUMING, "Next": "LookBeforeUpdate"},
                {"Variable": "$.seen.word", "StringEquals": ON, "Next": "LookBeforeUpdate"},
                otherwise="UnknownWord",
            ),
            "UnknownWord": states.fail(
                "UnknownWord", f"{self.calls.power_parameter} is no word of the switch."
            ),
        }

    def _wait_for_stack(self, look: str, *, settled: str, poll_s: int, polls: int) -> dict[str, State]:
        return {
            look: self.calls.describe(then=f"{look}Settled"),
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
            **self.calls.find_sources("FindSourcesToStop", then="StopSources"),
            "StopSources": self.calls.each_source(enabled=False, then="AnswersEnd", failed="GiveUp"),
            "AnswersEnd": {"Type": "Wait", "Seconds": ANSWERS_S, "Next": "Drain"},
            "Drain": self.calls.drained_queues(
                poll_s=DRAIN_POLL_S,
                polls=DRAIN_POLLS,
                then="Quiet",
            ),
            "Quiet": self.calls.read("$.now", then="StillQuiet"),
            "StillQuiet": states.same_version(then="WhichPause", otherwise="NextRound"),
            "WhichPause": states.choice(
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
            "StillTheSame": states.same_version(then="Update", otherwise="NextRound"),
            "Update": self.calls.update_stack(then="Updating", refused="Refused"),
            "Refused": states.choice(
                {"Variable": "$.error.Cause", "StringMatches": "*No updates are to be*", "Next": "Confirm"},
                {"Variable": "$.error.Cause", "StringMatches": "*_IN_PROGRESS*", "Next": "CountRefusal"},
                otherwise="CountUpdate",
            ),
            "CountRefusal": states.numbers(states.counted("polls"), then="LookBeforeUpdate"),
            "Updating": states.numbers({"polls": 0}, then="Watch"),
            "Watch": {"Type": "Wait", "Seconds": UPDATE_POLL_S, "Next": "LookAtUpdate"},
            "LookAtUpdate": self.calls.describe(then="Updated"),
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
            "BeforeRetry": {"Type": "Wait", "Seconds": RETRY_UPDATE_S, "Next": "LookBeforeUpdate"},
            "DeployTooLong": states.fail("DeployTooLong", "Another update of the stack did not end."),
            "StackNeedsRepair": states.fail(
                "StackNeedsRepair", "The stack is in a state that only a person mends (docs/runbook.md)."
            ),
        }

    def _confirm(self) -> dict[str, State]:
        """Nothing else was asked for meanwhile: then this is done, or work begins again."""
        return {
            "Confirm": self.calls.read("$.now", then="Confirmed"),
            "Confirmed": states.same_version(then="Done", otherwise="NextRound"),
            "Done": states.choice(
                {"Variable": "$.seen.word", "StringEquals": PAUSED, "Next": "Succeeded"},
                otherwise="FindSourcesToStart",
            ),
            **self.calls.find_sources("FindSourcesToStart", then="StartSources"),
            "StartSources": self.calls.each_source(enabled=True, then="MustSay", failed="SourcesFailed"),
            "SourcesFailed": states.numbers(states.counted("failed"), then="MustSay"),
            "MustSay": states.choice(
                {"Variable": "$.seen.word", "StringEquals": ON, "Next": "StillOn"}, otherwise="SayOn"
            ),
            # A pause may have stopped the sources just before this machine started them.
            "StillOn": self.calls.read("$.now", then="StayedOn"),
            "StayedOn": states.same_version(then="Outcome", otherwise="NextRound"),
            "GiveUp": states.numbers(states.counted("failed"), then="IsItStillWanted"),
            "IsItStillWanted": self.calls.read("$.now", then="GivenUp"),
            "GivenUp": states.same_version(then="GoBack", otherwise="NextRound"),
            "GoBack": states.choice(
                {"Variable": "$.seen.word", "StringEquals": RESUMING, "Next": "SayPaused"},
                {"Variable": "$.seen.word", "StringEquals": ON, "Next": "Failed"},
                # An earlier pause may have taken the endpoints away: only an update shows that they stand.
                otherwise="SayResuming",
            ),
            "SayResuming": self.calls.put(RESUMING, then="ExpectResuming"),
            "ExpectResuming": _next_version("$.now.version", then="ResumingWritten"),
            "ResumingWritten": _is_expected(then="RoundBack", otherwise="Overwritten"),
            # As NextRound, but what failed stays counted: the machine does not end as one that succeeded.
            "RoundBack": states.numbers(
                {"polls": 0, "updates": 0, "repairs": 0} | states.counted("round"), then="RoundsLeft"
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
            "IsItLost": states.choice(
                {"Variable": "$.lost.word", "StringEquals": PAUSING, "Next": "ExpectBack"},
                {"Variable": "$.lost.word", "StringEquals": RESUMING, "Next": "ExpectBack"},
                otherwise="NextRound",
            ),
            "ExpectBack": _next_version("$.said.version", then="PutBack"),
            "PutBack": self.calls.put("$.lost.word", then="PutBackAsExpected"),
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
    return states.choice(
        {"Variable": "$.said.version", "NumericEqualsPath": "$.expected.version", "Next": then},
        otherwise=otherwise,
    )
