"""How many tasks there are, by which metric that is judged, and where their traces go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from assistant.domain.clock import SystemClock
from assistant.process.settings import ServiceSettings
from assistant.service.health import LiveMetrics, TaskMetrics
from assistant.tenant import deployed_names
from tests.stacks.orchestrator_template import Template, container, environment, only, orchestrator_of
from tests.stacks.values import deployed, with_sections


@pytest.fixture(scope="module")
def template() -> Template:
    return orchestrator_of(deployed("pharmacy"))


def test_scaling_has_the_tenant_s_minimum_of_tasks(template: Template) -> None:
    larger = orchestrator_of(with_sections(deployed("pharmacy"), tasks={"min_tasks": 3, "max_tasks": 9}))
    bounds = [
        (target["MinCapacity"], target["MaxCapacity"])
        for target in (
            only(each, "AWS::ApplicationAutoScaling::ScalableTarget") for each in (template, larger)
        )
    ]
    assert bounds == [(2, 6), (3, 9)]


def test_an_update_keeps_the_scaled_count(template: Template) -> None:
    assert "DesiredCount" not in only(template, "AWS::ECS::Service")


def test_scaling_uses_a_metric_that_a_task_emits(template: Template) -> None:
    line = emitted(template)
    (declared,) = line["_aws"]["CloudWatchMetrics"]
    policy = only(template, "AWS::ApplicationAutoScaling::ScalingPolicy")
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]
    metric = tracking["CustomizedMetricSpecification"]
    assert metric["Namespace"] == declared["Namespace"]
    assert metric["MetricName"] in {each["Name"] for each in declared["Metrics"]}
    assert {each["Name"]: each["Value"] for each in metric["Dimensions"]} == dimensions(line)
    assert metric["Statistic"] == "Average"
    assert 0 < tracking["TargetValue"] < deployed("pharmacy").config.limits.streams


def test_the_rollback_alarm_uses_a_metric_that_a_task_emits(template: Template) -> None:
    line = emitted(template)
    alarm = only(template, "AWS::CloudWatch::Alarm")
    assert alarm["MetricName"] == deployed_names.INTERNAL_ERRORS
    assert alarm["MetricName"] in line
    assert {each["Name"]: each["Value"] for each in alarm["Dimensions"]} == dimensions(line)
    assert alarm["TreatMissingData"] == "notBreaching"


def emitted(template: Template) -> dict[str, Any]:
    """Return a line that a task with the template's environment emits."""
    service = environment(template)[ServiceSettings.variable("metrics_service")]
    metrics = TaskMetrics(
        service=service,
        active=lambda: 1,
        failures=lambda: 0,
        clock=SystemClock(),
        live=LiveMetrics(CollectorRegistry()),
    )
    metrics.sample()
    return orjson.loads(metrics.lines())


def dimensions(line: Mapping[str, Any]) -> dict[str, str]:
    (names,) = line["_aws"]["CloudWatchMetrics"][0]["Dimensions"]
    return {name: line[name] for name in names}


# --- traces ---


def test_the_collector_listens_where_the_service_sends(template: Template) -> None:
    config = json.loads(container(template, "Traces")["Environment"][0]["Value"])
    address = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert environment(template)[ServiceSettings.variable("otlp_endpoint")] == f"http://{address}"


def test_the_collector_s_queue_fits_its_memory(template: Template) -> None:
    task = container(template, "Traces")
    config = json.loads(task["Environment"][0]["Value"])
    limiter = config["processors"]["memory_limiter"]
    assert limiter["limit_mib"] + limiter["spike_limit_mib"] < task["Memory"]
    assert config["service"]["pipelines"]["traces"]["processors"][0] == "memory_limiter"


def test_the_collector_stops_after_the_service(template: Template) -> None:
    assert container(template)["DependsOn"] == [{"Condition": "START", "ContainerName": "Traces"}]
    assert container(template)["Essential"] is True
    assert container(template, "Traces")["Essential"] is False
