"""Single states of the power machines, as Amazon States Language has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
