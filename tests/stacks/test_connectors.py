"""Runs of connectors: when they start, how they reach their systems, and what raises the alarm."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from assistant.options.sources.settings import SOURCE_DIMENSION, SOURCE_READ
from assistant.tenant.deployment_checks import contradictions
from stacks.observability import ObservabilityStack
from stacks.processes import effective_tenant_file
from stacks.tenant import ROOT
from tests.stacks.first_week import alarms_on_run, raised_in
from tests.stacks.scheduled import connected
from tests.stacks.values import stack_with, template_of


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
