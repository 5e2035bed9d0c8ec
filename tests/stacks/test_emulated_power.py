"""A tenant is deployed paused, then resumed and paused again with the deployed state machines' definitions.

Each of their calls goes to the emulated account. Only waits are not real: they take no time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.stacks.emulated_account import EmulatedAccount, emulated_account, resources_of
from tests.stacks.power.state_language import Call, CallFailedError, Pause, execute
from tests.stacks.synthesized import assembly_folder

TENANT = "sandbox"
POWER = f"/assistant/{TENANT}/power"
ENDPOINTS = {f"{TENANT}-embedding"}
pytestmark = pytest.mark.loopback


@pytest.fixture(scope="module")
def account(assembly: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedAccount]:
    """An account in which the tenant was deployed for the first time: paused."""
    with emulated_account(tmp_path_factory.mktemp("account")) as account:
        account.bootstrap(assembly)
        account.put_parameter(POWER, "paused")
        account.put_parameter(f"/assistant/{TENANT}/jwks", '{"keys": []}')
        account.deploy(assembly_folder(assembly, TENANT))
        yield account


def switched(account: EmulatedAccount, kind: str, *, tenant: str = TENANT) -> list[str]:
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


def word(account: EmulatedAccount) -> str:
    return str(account.client("ssm").get_parameter(Name=POWER)["Parameter"]["Value"])


def endpoints(account: EmulatedAccount) -> set[str]:
    return {each["EndpointName"] for each in account.client("sagemaker").list_endpoints()["Endpoints"]}


def sources(account: EmulatedAccount) -> set[str]:
    """Return the states of the event sources that the state machines switch, by ingestion's names."""
    found = account.client("ssm").get_parameter(Name=f"{POWER}-sources")["Parameter"]["Value"]
    named = json.loads(found)["event_sources"]
    assert len(named) > 1
    client = account.client("lambda")
    return {client.get_event_source_mapping(UUID=each)["State"] for each in named}


def test_a_first_deployment_is_paused_resumes_and_pauses_again(account: EmulatedAccount) -> None:
    assert word(account) == "paused"
    assert endpoints(account) == set()
    assert sources(account) == {"Disabled"}

    called = switched(account, "Resume")

    assert word(account) == "on"
    assert endpoints(account) == ENDPOINTS
    assert sources(account) == {"Enabled"}
    assert "cloudformation:updateStack" in called

    switched(account, "Pause")

    assert word(account) == "paused"
    assert endpoints(account) == set()
    assert sources(account) == {"Disabled"}
