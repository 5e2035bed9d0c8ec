"""The environment of a container or function, by the class that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk

from assistant.settings.process import ProcessSettings


def process_environment(settings: type[ProcessSettings], given: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables by which a process reads what is ``given`` by field; absent ones are left out.

    What only the deployment knows passes as it is; everything else is validated as the process will.
    Raises ConfigurationError naming every wrong variable.
    """
    there = {name: value for name, value in given.items() if value is not None}
    known_later = {name for name, value in there.items() if cdk.Token.is_unresolved(value)}
    return settings.variables(there, known_later=known_later)
