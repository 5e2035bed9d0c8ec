"""Runs of connectors: when they start, how they reach their systems, and what raises the alarm."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from assistant.options.sources.settings import SOURCE_DIMENSION, SOURCE_READ
from assistant.tenant.deployment_checks import contradictions
from stacks.network import NetworkStack
from stacks.observability import ObservabilityStack
from stacks.outputs import Workload
from stacks.processes import effective_tenant_file
from stacks.tenant import ROOT, DeployedTenant
from tests.stacks.first_week import alarms_on_run, raised_in
from tests.stacks.orchestrator_template import only, orchestrator_of
from tests.stacks.scheduled import started
from tests.stacks.values import NETWORK, deployed, stack_with, template_of, with_sections

HOST = "wiki.clinic.example.com"
CONNECTOR = {
    "kind": "mediawiki",
    "api": f"https://{HOST}/api.php",
    "user": "Reader@assistant",
    "secret": "state:wiki",
    "every_minutes": 30,
    "reach": "wiki",
}
WAY = {
    "name": "wiki",
    "caller": "connectors",
    "port": 443,
    "service_name": "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0",
    "host_name": HOST,
    "ca_pem": "PEM",
}


def connected(way: dict[str, Any] | None = None, **connector: Any) -> DeployedTenant:
    source = {"name": "wiki", "access": "everyone", "kind": "procedures", "connector": CONNECTOR | connector}
    return with_sections(deployed("clinic"), reach=[WAY | (way or {})], sources=[source])


def test_a_schedule_starts_the_run_of_its_source_in_the_group_of_connectors() -> None:
    template = orchestrator_of(connected())
    schedule = only(template, "AWS::Scheduler::Schedule")
    task = started(template)
    (override,) = task["Overrides"]["ContainerOverrides"]
    assert schedule["ScheduleExpression"] == "rate(30 minutes)"
    assert json.loads(schedule["Target"]["Input"]) == {"command": ["wiki"]}
    where = task["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert where["SecurityGroups"] == [NETWORK.security_group_ids[Workload.CONNECTORS]]
    definition = template["Resources"][task["TaskDefinition"]["Ref"]]["Properties"]
    (container,) = definition["ContainerDefinitions"]
    assert (container["Name"], container["EntryPoint"][-1]) == (
        override["Name"],
        "assistant.options.sources.task",
    )


def test_the_host_of_its_url_leads_to_the_system_in_the_vpc() -> None:
    template = template_of(stack_with(NetworkStack, connected()))
    zone, record = only(template, "AWS::Route53::HostedZone"), only(template, "AWS::Route53::RecordSet")
    assert (zone["Name"], record["Name"], zone["VPCs"][0]["VPCId"]) == (HOST, HOST, {"Ref": "Vpc"})
    assert "ReachWikiEndpoint" in json.dumps(record["AliasTarget"])


def test_a_run_gets_the_secret_and_the_authorities_of_the_entry() -> None:
    (source,) = tomllib.loads(effective_tenant_file(connected()))["sources"]
    given = source["connector"]
    assert (given["secret"], given["ca_pem"]) == ("secretsmanager:assistant/clinic/reach/wiki", "PEM")


def test_the_alarm_is_raised_by_runs_that_fail_and_by_those_that_never_started() -> None:
    template = template_of(stack_with(ObservabilityStack, connected()))
    (alarm,) = alarms_on_run(template, SOURCE_READ)
    (run,) = [one["MetricStat"]["Metric"] for one in alarm["Metrics"] if one["Id"] == "run"]
    assert {"Name": SOURCE_DIMENSION, "Value": "wiki"} in run["Dimensions"]
    hours: int = alarm["EvaluationPeriods"]
    assert raised_in(alarm, [0.0] * hours) == raised_in(alarm, [None] * hours) == [hours]


@pytest.mark.parametrize(
    ("way", "connector"),
    [
        ({}, {"reach": None}),
        ({"caller": "orchestrator"}, {}),
        ({"port": 8443}, {}),
        ({"host_name": "a.b"}, {}),
    ],
    ids=["none", "not for connectors", "another port", "another host"],
)
def test_a_connector_without_a_way_to_its_system_is_refused_with_the_key(
    way: dict[str, Any], connector: dict[str, Any]
) -> None:
    tenant = connected(way, **connector)
    found = contradictions(tenant.config, place=tenant.place, edge=tenant.edge, models=tenant.models)
    assert [tuple(one.place) for one in found] == [("sources", 0, "connector", "reach")]


def test_drivers_of_databases_are_in_the_image_and_not_in_the_layer_of_functions() -> None:
    locks = {name: (ROOT / f"requirements/{name}.txt").read_text() for name in ("service", "functions")}
    assert [name for name, lock in locks.items() if "\nsqlalchemy==" in lock] == ["service"]
