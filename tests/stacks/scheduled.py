"""A tenant whose schedule reads a source, and the state machine of a template that starts a task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from stacks.tenant import DeployedTenant
from tests.stacks.orchestrator_template import only
from tests.stacks.values import deployed, with_sections

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


def machine(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definition of the template's one state machine."""
    properties = only(template, "AWS::StepFunctions::StateMachine")
    text = json.dumps(properties["Definition"])
    for name, value in properties["DefinitionSubstitutions"].items():
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text
    return cast("Mapping[str, Any]", json.loads(text))


def started(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the machine asks ECS to run."""
    (branch,) = machine(template)["States"]["Start"]["Branches"]
    return branch["States"]["RunTask"]["Parameters"]
