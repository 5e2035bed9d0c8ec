"""``assistant aws pause`` and ``resume``: what they ask, start, wait for and refuse."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from assistant.cli.aws.power import PowerCommand
from assistant.domain.errors import DeploymentError
from assistant.terminal.account import AwsAccount
from assistant.terminal.terminal import Terminal
from tests.stage.aws_server import REGION
from tests.stage.sagemaker_control import ControlledSageMaker

ACCOUNT = "123456789012"
POWER = "/assistant/pharmacy/power"
STACK = "assistant-pharmacy-Models"
QUOTA = "ml.c7i.xlarge for endpoint usage"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/power"
pytestmark = pytest.mark.loopback


def endpoint(name: str) -> dict[str, Any]:
    variant = {
        "VariantName": "served",
        "ModelName": "m",
        "InstanceType": "ml.c7i.xlarge",
        "InitialInstanceCount": 2,
        "InitialVariantWeight": 1,
    }
    return {
        f"{name}Config": {
            "Type": "AWS::SageMaker::EndpointConfig",
            "Condition": "Starts",
            "Properties": {"ProductionVariants": [variant]},
        },
        name: {
            "Type": "AWS::SageMaker::Endpoint",
            "Condition": "Starts",
            "Properties": {
                "EndpointName": name,
                "EndpointConfigName": {"Fn::GetAtt": [f"{name}Config", "EndpointConfigName"]},
            },
        },
    }


@pytest.fixture
def aws(aws_server_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Clients of an account in which the models stack of a paused tenant stands."""
    for name, value in {
        "AWS_ENDPOINT_URL": aws_server_url,
        "AWS_ACCESS_KEY_ID": "AKIDLOCAL",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)

    def client(service: str) -> Any:
        return boto3.client(service, region_name=REGION, endpoint_url=aws_server_url)  # type: ignore[call-overload]

    machine = {
        "Type": "AWS::StepFunctions::StateMachine",
        "Properties": {
            "DefinitionString": json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}),
            "RoleArn": ROLE,
        },
    }
    template = {
        "Conditions": {"Starts": {"Fn::Equals": ["a", "b"]}},
        "Resources": {"Resume": machine, "Pause": machine, **endpoint("embedding"), **endpoint("llm")},
        "Outputs": {f"{verb}Machine": {"Value": {"Ref": verb}} for verb in ("Resume", "Pause")},
    }
    client("cloudformation").create_stack(StackName=STACK, TemplateBody=json.dumps(template))
    client("ssm").put_parameter(Name=POWER, Value="paused", Type="String")
    asyncio.run(ControlledSageMaker(aws_server_url).quotas({QUOTA: 4.0}))
    yield client
    asyncio.run(ControlledSageMaker(aws_server_url).quotas({}))
    client("ssm").delete_parameter(Name=POWER)
    client("cloudformation").delete_stack(StackName=STACK)


def command(parameter: str = POWER) -> PowerCommand:
    return PowerCommand(
        aws=AwsAccount(account=ACCOUNT, region=REGION),
        tenant="pharmacy",
        stack=STACK,
        parameter=parameter,
        terminal=Terminal(),
        poll_s=0.01,
    )


def executions(aws: Callable[[str], Any], verb: str) -> list[dict[str, Any]]:
    outputs = aws("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]["Outputs"]
    (machine,) = [each["OutputValue"] for each in outputs if each["OutputKey"] == f"{verb}Machine"]
    return aws("stepfunctions").list_executions(stateMachineArn=machine)["executions"]


def once_started(aws: Callable[[str], Any], verb: str, change: Callable[[str], None]) -> threading.Thread:
    """Do what the machine would once an execution of it runs."""

    def watch() -> None:
        ends = time.monotonic() + 30
        while not (found := executions(aws, verb)) and time.monotonic() < ends:
            time.sleep(0.01)
        change(found[0]["executionArn"])

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_resume_starts_the_machine_once_and_ends_when_questions_are_answered(
    aws: Callable[[str], Any],
) -> None:
    def on(_: str) -> None:
        aws("ssm").put_parameter(Name=POWER, Value="on", Type="String", Overwrite=True)

    change = command().plan("on")
    assert (change.before, dict(change.instances), change.quotas) == ("paused", {"ml.c7i.xlarge": 4}, [])
    assert executions(aws, "Resume") == []

    thread = once_started(aws, "Resume", on)
    command().run(change)
    thread.join()
    command().run(command().plan("on"))

    assert len(executions(aws, "Resume")) == 1
    assert executions(aws, "Pause") == []


def test_a_resume_after_a_kill_joins_the_execution_that_runs(aws: Callable[[str], Any]) -> None:
    outputs = aws("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]["Outputs"]
    (machine,) = [each["OutputValue"] for each in outputs if each["OutputKey"] == "ResumeMachine"]
    aws("stepfunctions").start_execution(stateMachineArn=machine)

    def on(_: str) -> None:
        aws("ssm").put_parameter(Name=POWER, Value="on", Type="String", Overwrite=True)

    thread = once_started(aws, "Resume", on)
    command().run(command().plan("on"))
    thread.join()

    assert len(executions(aws, "Resume")) == 1


def test_a_resume_is_refused_with_the_ticket_s_text_where_a_quota_is_too_low(
    aws: Callable[[str], Any], aws_server_url: str
) -> None:
    asyncio.run(ControlledSageMaker(aws_server_url).quotas({QUOTA: 3.0}))

    with pytest.raises(DeploymentError, match=r"request-service-quota-increase .*--desired-value 4"):
        command().run(command().plan("on"))

    assert executions(aws, "Resume") == []


def test_a_pause_asks_no_quota(aws: Callable[[str], Any], aws_server_url: str) -> None:
    asyncio.run(ControlledSageMaker(aws_server_url).quotas({QUOTA: 0.0}))
    aws("ssm").put_parameter(Name=POWER, Value="on", Type="String", Overwrite=True)

    change = command().plan("paused")

    assert (dict(change.instances), change.quotas) == ({}, [])


def test_an_execution_that_fails_ends_the_wait(aws: Callable[[str], Any]) -> None:
    def stop(execution: str) -> None:
        aws("stepfunctions").stop_execution(
            executionArn=execution, error="StackNeedsRepair", cause="rolled back"
        )

    thread = once_started(aws, "Resume", stop)
    with pytest.raises(DeploymentError, match="ended as ABORTED"):
        command().run(command().plan("on"))
    thread.join()


def test_a_tenant_that_is_not_deployed_is_refused(aws: Callable[[str], Any]) -> None:
    with pytest.raises(DeploymentError, match="is not deployed"):
        command(parameter="/assistant/clinic/power").plan("on")
