"""The state machine of a template that starts a task, as tests read and run it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from tests.stacks.orchestrator_template import only


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
