"""Evaluates filter patterns of CloudWatch Logs over events and our logs: the syntax that ours use; and which
metrics count an event of CloudTrail.

An absent field neither equals nor differs from a value. AWS documents neither, so no pattern may rely on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.fakes.event_patterns import takes
from tests.stacks.values import resources_of

_TOKEN = re.compile(r'\s*(?:(\(|\)|&&|\|\||!=|>=|=|IS TRUE)|(\$[\w.\[\]]+)|"((?:[^"\\]|\\.)*)"|(\d+))')


def matches(pattern: str, event: Mapping[str, Any]) -> bool:
    """Return whether an event is counted. Raises ValueError where the pattern is none."""
    body = pattern.strip()
    if not (body.startswith("{") and body.endswith("}")):
        raise ValueError(f"not a pattern of JSON: {pattern}")
    parser = _Parser(_tokens(body[1:-1]), event)
    result = parser.any_of()
    if parser.rest:
        raise ValueError(f"{parser.rest[0]} is left of {pattern}")
    return result


def as_sent(record: Mapping[str, Any], *, region: str = "us-east-1") -> dict[str, Any]:
    """Return the event of EventBridge for a record of CloudTrail."""
    return {"detail-type": "AWS API Call via CloudTrail", "region": region, "detail": record}


def counted_by(template: Mapping[str, Any], record: Mapping[str, Any]) -> set[str]:
    """Return the metrics that count a record of CloudTrail, if a rule of the template sends it to the log."""
    event = as_sent(record)
    rules = resources_of(template, "AWS::Events::Rule").values()
    if not any(takes(rule["Properties"]["EventPattern"], event) for rule in rules):
        return set()
    return {
        body["Properties"]["MetricTransformations"][0]["MetricName"]
        for body in resources_of(template, "AWS::Logs::MetricFilter").values()
        if matches(body["Properties"]["FilterPattern"], event)
    }


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"not understood: {text[position:]}")
        operator, field, value, number = match.groups()
        kind = "operator" if operator else "field" if field else "value"
        found.append((kind, operator or field or number or value))
        position = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], event: Mapping[str, Any]) -> None:
        self.rest = tokens
        self._event = event

    def any_of(self) -> bool:
        result = self._all_of()
        while self.rest and self.rest[0][1] == "||":
            self.rest.pop(0)
            result = self._all_of() or result
        return result

    def _all_of(self) -> bool:
        result = self._clause()
        while self.rest and self.rest[0][1] == "&&":
            self.rest.pop(0)
            result = self._clause() and result
        return result

    def _clause(self) -> bool:
        kind, text = self.rest.pop(0)
        if text == "(" and kind == "operator":
            result = self.any_of()
            if self.rest.pop(0)[1] != ")":
                raise ValueError("a bracket is left open")
            return result
        if kind != "field":
            raise ValueError(f"{text} is no field")
        there = _value(self._event, text)
        operator = self.rest.pop(0)[1]
        if operator == "IS TRUE":
            return there is True
        wanted = self.rest.pop(0)[1]
        if there is None:
            return False
        if operator == ">=":
            return float(there) >= float(wanted)
        is_equal = _fits(str(there), wanted)
        return is_equal if operator == "=" else not is_equal


def _value(event: Mapping[str, Any], selector: str) -> Any:
    found: Any = event
    for part in re.findall(r"\w+|\[\d+\]", selector):
        if part.startswith("["):
            number = int(part[1:-1])
            found = found[number] if isinstance(found, list) and number < len(found) else None
        else:
            found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _fits(there: str, wanted: str) -> bool:
    """``*`` ends a term that may go on."""
    return there.startswith(wanted[:-1]) if wanted.endswith("*") else there == wanted
