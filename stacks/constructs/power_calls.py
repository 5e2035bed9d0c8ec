"""The calls of AWS APIs that the power machines are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stacks.constructs import power_states as states
from stacks.constructs.power_states import State


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
        return states.call(
            self._resource("cloudformation", "describeStacks"),
            parameters={"StackName": self.stack_id},
            ResultSelector={"status.$": "$.Stacks[0].StackStatus"},
            ResultPath="$.stack",
            Retry=states.TRIES,
            Next=then,
        )

    def update_stack(self, *, then: str, refused: str) -> State:
        """Update the stack as it is. What CloudFormation says against it is in ``$.error.Cause``."""
        kept = [{"ParameterKey": name, "UsePreviousValue": True} for name in self.parameters]
        return states.call(
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
        return states.call(
            self._resource("ssm", "putParameter"),
            parameters={"Name": self.power_parameter, "Overwrite": True, **value},
            ResultSelector={"version.$": "$.Version"},
            ResultPath="$.said",
            Retry=states.TRIES,
            Next=then,
        )

    def read(self, into: str, *, then: str, version: str | None = None) -> State:
        """Read the word and its version, or the word of an earlier version."""
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

    def find_sources(self, name: str, *, then: str) -> dict[str, State]:
        """Put what the ingestion stack wrote of itself into ``$.work.sources``."""
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

    def drained_queues(self, *, poll_s: int, polls: int, then: str) -> State:
        """Wait until no message of any queue is in work, but not longer than the polls."""
        return states.drained_queues(
            self._resource("sqs", "getQueueAttributes"), poll_s=poll_s, polls=polls, then=then
        )

    def each_source(self, *, enabled: bool, then: str, failed: str) -> State:
        """Start or stop every source of work."""
        return states.each_source(
            self._resource("lambda", "updateEventSourceMapping"), enabled=enabled, then=then, failed=failed
        )
