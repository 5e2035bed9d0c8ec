"""How a stream ends when its task does, over every part that could cut it: each outlasts the one before."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from assistant.process.http import KEEP_ALIVE_S
from assistant.process.settings import ServiceSettings
from assistant.service.__main__ import AFTER_DRAIN_S
from tests.stacks.synthesized import assembly_folder, templates_in
from tests.stacks.values import resources_of

LONGEST_STOP_S = 120.0
"""Fargate takes no longer stop timeout."""


class Deployed:
    """What a tenant's templates say of time-outs, in seconds."""

    def __init__(self, assembly: Path, tenant: str) -> None:
        templates = templates_in(assembly_folder(assembly, tenant))
        edge, orchestrator = templates["Edge"], templates["Orchestrator"]
        (definition,) = resources_of(orchestrator, "AWS::ECS::TaskDefinition").values()
        self.container = next(
            each for each in definition["Properties"]["ContainerDefinitions"] if each["Name"] == "Service"
        )
        given = {each["Name"]: each["Value"] for each in self.container["Environment"]}
        file = assembly / f"asset.{given[ServiceSettings.variable('tenant_file_s3')].rpartition('/')[2]}"
        limits = tomllib.loads(file.read_text(encoding="utf-8"))["limits"]
        self.answer_s = float(limits["answer_deadline_s"])
        self.drain_s = float(given[ServiceSettings.variable("drain_timeout_s")])
        self.stop_s = float(self.container["StopTimeout"])
        (self.targets,) = [
            body["Properties"]
            for body in resources_of(edge, "AWS::ElasticLoadBalancingV2::TargetGroup").values()
            if body["Properties"]["TargetType"] == "ip"
        ]
        self.deregistration_s = float(attributes(self.targets)["deregistration_delay.timeout_seconds"])
        balancers = resources_of(edge, "AWS::ElasticLoadBalancingV2::LoadBalancer").values()
        (self.balancer_idle_s,) = [
            float(attributes(body["Properties"], "LoadBalancerAttributes")["idle_timeout.timeout_seconds"])
            for body in balancers
            if body["Properties"]["Type"] == "application"
        ]


def attributes(properties: Mapping[str, Any], name: str = "TargetGroupAttributes") -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in properties[name]}


@pytest.fixture(scope="module", params=["pharmacy", "clinic", "sandbox"])
def deployed(request: pytest.FixtureRequest, assembly: Path) -> Deployed:
    return Deployed(assembly, request.param)


def test_a_started_answer_is_finished_before_the_task_is_killed(deployed: Deployed) -> None:
    assert deployed.answer_s < deployed.drain_s
    assert deployed.drain_s + AFTER_DRAIN_S < deployed.stop_s <= LONGEST_STOP_S


def test_deregistration_takes_longer_than_the_task_s_stop(deployed: Deployed) -> None:
    assert deployed.stop_s <= deployed.deregistration_s


def test_tasks_keep_connections_longer_than_the_balancer(deployed: Deployed) -> None:
    assert deployed.balancer_idle_s < KEEP_ALIVE_S


def test_the_balancer_speaks_tls_to_the_port_that_the_task_opens(deployed: Deployed) -> None:
    (mapping,) = deployed.container["PortMappings"]
    assert (deployed.targets["Protocol"], deployed.targets["Port"]) == ("HTTPS", mapping["ContainerPort"])
    health = deployed.targets["HealthCheckProtocol"], deployed.targets["HealthCheckPath"]
    assert health == ("HTTPS", "/healthz")
