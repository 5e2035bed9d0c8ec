"""The state machine of a template that starts a task, as tests read and run it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.stacks.orchestrator_template import only


def machine(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definition of the template's one state machine."""
    return only(template, "AWS::StepFunctions::StateMachine")["Definition"]


def started(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the machine asks ECS to run."""
    (branch,) = machine(template)["States"]["Start"]["Branches"]
    return branch["States"]["RunTask"]["Parameters"]
