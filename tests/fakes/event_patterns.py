"""Evaluates event patterns of EventBridge: the operators that ours use.

Of a list in an event one element is enough, and all that a pattern asks below it is asked of that element:
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html,
https://github.com/aws/event-ruler, "Array consistency".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

_ABSENT = object()


def takes(pattern: Mapping[str, Any], event: Any) -> bool:
    """Return whether a rule with this pattern gets an event. Raises ValueError for an unknown operator."""
    if isinstance(event, list):
        return any(takes(pattern, each) for each in cast("list[Any]", event))
    return isinstance(event, dict) and all(
        any(takes(each, event) for each in wanted)
        if key == "$or"
        else _meets(wanted, cast("dict[str, Any]", event).get(key, _ABSENT))
        for key, wanted in pattern.items()
    )


def _meets(wanted: Mapping[str, Any] | Sequence[Any], value: Any) -> bool:
    if isinstance(wanted, Mapping):
        return takes(wanted, value)
    values = cast("list[Any]", value) if isinstance(value, list) else [value]
    return any(_equals(rule, each) for rule in wanted for each in values)


def _equals(rule: Any, value: Any) -> bool:
    if not isinstance(rule, Mapping):
        return type(rule) is type(value) and rule == value
    ((operator, operand),) = cast("Mapping[str, Any]", rule).items()
    if operator == "exists":
        return (value is not _ABSENT) is operand
    if operator == "anything-but":
        return value is not _ABSENT and value != operand
    if operator == "suffix":
        return isinstance(value, str) and value.endswith(operand)
    if operator == "prefix":
        return isinstance(value, str) and value.startswith(operand)
    if operator == "equals-ignore-case":
        return isinstance(value, str) and value.lower() == operand.lower()
    raise ValueError(f"unknown operator: {operator}")
