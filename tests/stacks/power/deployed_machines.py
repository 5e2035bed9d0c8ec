"""The state machines of a tenant that was deployed to an emulated account, executed there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from tests.stacks.emulated_account import EmulatedAccount, resources_of
from tests.stacks.power.state_language import Call, CallFailedError, Pause, execute


def switched(account: EmulatedAccount, kind: str, *, tenant: str) -> list[str]:
    """Execute the deployed machine and return the actions that it called. Raises ExecutionFailedError."""
    (arn,) = [
        each
        for each in resources_of(account, f"assistant-{tenant}-Models", "AWS::StepFunctions::StateMachine")
        if kind in each
    ]
    found = account.client("stepfunctions").describe_state_machine(stateMachineArn=arn)
    steps = execute(json.loads(found["definition"]), {})
    actions: list[str] = []
    result: Any = None
    failure: CallFailedError | None = None
    while True:
        try:
            step = steps.send(result) if failure is None else steps.throw(failure)
        except StopIteration:
            return actions
        result, failure = None, None
        if isinstance(step, Pause):
            continue
        actions.append(step.action)
        try:
            result = made(account, step)
        except CallFailedError as error:
            failure = error


def made(account: EmulatedAccount, call: Call) -> Mapping[str, Any]:
    """Make a state machine's call as Step Functions does; return its result by Step Functions' names."""
    service, _, action = call.action.partition(":")
    client = account.client(service)
    method = getattr(client, "".join(f"_{c.lower()}" if c.isupper() else c for c in action))
    given = dict(call.parameters)
    if service == "lambda":
        given["UUID"] = given.pop("Uuid")
    try:
        return method(**given)
    except ClientError as error:
        told = error.response["Error"]
        name = f"{service.capitalize()}.{told['Code'].removesuffix('Exception')}Exception"
        raise CallFailedError(name, told["Message"]) from None
