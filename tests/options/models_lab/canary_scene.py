"""An LLM endpoint on the emulator with the two configurations that a models stack declares."""
# pyright: basic

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import boto3
import pytest

from assistant.options.models_lab.commands.canary import Canary
from assistant.terminal.account import AwsAccount
from tests.fakes.aws_server import REGION
from tests.fakes.sagemaker_control import ACCOUNT, ControlledSageMaker

ROLE = f"arn:aws:iam::{ACCOUNT}:role/Endpoint"


def variant(name: str, model: str, weight: float) -> dict[str, Any]:
    return {
        "VariantName": name,
        "ModelName": model,
        "InstanceType": "ml.c7i.xlarge",
        "InitialInstanceCount": 1,
        "InitialVariantWeight": weight,
    }


@dataclass
class Scene:
    """An endpoint in service by its served configuration, and what a test does while a command waits."""

    url: str
    name: str = field(default_factory=lambda: f"llm-{uuid4().hex[:8]}")
    steps: list[Callable[[], None]] = field(default_factory=list)
    """What happens at each wait, in order; after them the endpoint gets into service."""
    seen: list[tuple[str, str, float]] = field(default_factory=list)
    """At each wait: status, configuration, and the weight that the canary shall have."""

    @property
    def sagemaker(self) -> Any:
        return boto3.client("sagemaker", region_name=REGION)

    @property
    def canary(self) -> Canary:
        return Canary(
            aws=AwsAccount(account=ACCOUNT, region=REGION),
            endpoint=self.name,
            served_config=f"{self.name}-served",
            canary_config=f"{self.name}-canary",
            sleep=self.wait,
        )

    def make(self) -> None:
        served, canary = (
            variant("AllTraffic", f"{self.name}-a", 1.0),
            variant("Canary", f"{self.name}-b", 0.0),
        )
        for model in (f"{self.name}-a", f"{self.name}-b"):
            image = {"Image": "123.dkr.ecr/model-server"}
            self.sagemaker.create_model(ModelName=model, ExecutionRoleArn=ROLE, PrimaryContainer=image)
        for config, variants in (("served", [served]), ("canary", [served, canary])):
            self.sagemaker.create_endpoint_config(
                EndpointConfigName=f"{self.name}-{config}", ProductionVariants=variants
            )
        self.sagemaker.create_endpoint(EndpointName=self.name, EndpointConfigName=f"{self.name}-served")
        self.move()

    def move(self, status: str = "InService", reason: str = "") -> None:
        asyncio.run(ControlledSageMaker(self.url).move_endpoint(self.name, status, reason=reason))

    def told(self) -> dict[str, Any]:
        return self.sagemaker.describe_endpoint(EndpointName=self.name)

    def wait(self, _seconds: float) -> None:
        told = self.told()
        weights = {one["VariantName"]: one["DesiredWeight"] for one in told["ProductionVariants"]}
        self.seen.append((told["EndpointStatus"], told["EndpointConfigName"], weights.get("Canary", -1.0)))
        (self.steps.pop(0) if self.steps else self.move)()

    def update(self, config: str) -> None:
        """Begin what a killed command began."""
        self.sagemaker.update_endpoint(
            EndpointName=self.name,
            EndpointConfigName=f"{self.name}-{config}",
            RetainAllVariantProperties=True,
        )

    def shares(self) -> dict[str, tuple[float, int]]:
        """Return weight and number of instances by variant."""
        return {
            one["VariantName"]: (one["CurrentWeight"], one["CurrentInstanceCount"])
            for one in self.told()["ProductionVariants"]
        }


@pytest.fixture
def scene(aws_server_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    for name, value in {
        "AWS_ENDPOINT_URL": aws_server_url,
        "AWS_ACCESS_KEY_ID": "AKIDLOCAL",
        "AWS_SECRET_ACCESS_KEY": "x",
    }.items():
        monkeypatch.setenv(name, value)
    made = Scene(aws_server_url)
    made.make()
    yield made
    assert not made.steps, "a step of the test was never reached"
