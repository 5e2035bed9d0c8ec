"""Judges a template's alarms, minute by minute, as CloudWatch does, and the filter patterns of its logs.

Missing data: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html.
Expressions: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html.
Of patterns the syntax that ours use; an absent field neither equals nor differs from a value. AWS documents
neither, so no pattern may rely on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.stacks.values import resources_of
from tests.stage.cloudformation_server import takes

OK, ALARM, INSUFFICIENT = "OK", "ALARM", "INSUFFICIENT_DATA"
_MORE = 2
"""Points that CloudWatch looks at beyond the evaluation periods, by the page's tables."""
_COMPARED = {
    "GreaterThanOrEqualToThreshold": np.greater_equal,
    "GreaterThanThreshold": np.greater,
    "LessThanThreshold": np.less,
    "LessThanOrEqualToThreshold": np.less_equal,
}
Points = Any
"""A masked array: a value for each period, masked where data are missing."""
Samples = Sequence[tuple[int, float]]
"""Minute and value."""
Read = Callable[[Mapping[str, Any]], Samples]
"""The samples of a metric (``Namespace``, ``MetricName``, ``Dimensions``)."""


def points_of(alarm: Mapping[str, Any], read: Read, *, minutes: int) -> tuple[Points, int]:
    """Return the points of what an alarm watches, and its period in minutes."""
    if "Metrics" not in alarm:
        period = alarm["Period"] // 60
        statistic = alarm.get("Statistic") or alarm["ExtendedStatistic"]
        return _points(read(alarm), statistic, period=period, minutes=minutes), period
    queries = {query["Id"]: query for query in alarm["Metrics"]}
    (period,) = {query["MetricStat"]["Period"] // 60 for query in queries.values() if "MetricStat" in query}

    class Named(dict[str, Points]):
        def __missing__(self, name: str) -> Points:
            query = queries[name]
            if "MetricStat" in query:
                watched = query["MetricStat"]
                return _points(read(watched["Metric"]), watched["Stat"], period=period, minutes=minutes)
            assert query.get("Period", period * 60) == period * 60
            # What our expressions use of metric math means the same in Python, over masked arrays.
            return eval(query["Expression"], {"__builtins__": {}}, Named(_FUNCTIONS))  # noqa: S307

    (told,) = [query["Id"] for query in queries.values() if query.get("ReturnData", True)]
    return Named()[told], period


def _if(condition: Points, then: Points, otherwise: Points = np.ma.masked) -> Points:
    return np.ma.where(condition, then, otherwise)


_FUNCTIONS: dict[str, Any] = {
    "IF": _if,
    "SUM": lambda several: np.ma.stack(several).sum(axis=0),
    "MAX": lambda several: np.ma.stack(several).max(axis=0),
}


def _points(samples: Samples, statistic: str, *, period: int, minutes: int) -> Points:
    by_period: dict[int, list[float]] = {}
    for minute, value in samples:
        by_period.setdefault(minute // period, []).append(value)
    points = np.ma.array(np.zeros(minutes // period), mask=True)
    for at, values in by_period.items():
        if at < len(points):
            points[at] = _statistic(values, statistic)
    return points


def _statistic(values: list[float], name: str) -> float:
    named: dict[str, Callable[[list[float]], float]] = {
        "Sum": sum,
        "Maximum": max,
        "Minimum": min,
        "Average": lambda several: sum(several) / len(several),
    }
    return named[name](values) if name in named else float(np.percentile(values, float(name[1:])))


def states_of(alarm: Mapping[str, Any], points: Points) -> list[str]:
    """Return the state after each period. An alarm begins with INSUFFICIENT_DATA, and before it existed its
    metric had no data."""
    breaching = _COMPARED[alarm["ComparisonOperator"]](points, alarm["Threshold"])
    seen: list[bool | None] = [None if point is np.ma.masked else bool(point) for point in breaching]
    periods: int = alarm["EvaluationPeriods"]
    enough, missing = alarm.get("DatapointsToAlarm", periods), alarm.get("TreatMissingData", "missing")
    if any(part.get("Namespace") == "AWS/DynamoDB" for part in _metrics(alarm)):
        missing = "ignore"  # whatever the alarm says, by the same page
    state, states = INSUFFICIENT, list[str]()
    for at in range(1, len(seen) + 1):
        looked_at = seen[max(0, at - periods - _MORE) : at]
        state = state_after(looked_at, state, periods=periods, enough=enough, missing=missing)
        states.append(state)
    return states


def state_after(
    looked_at: Sequence[bool | None], before: str, *, periods: int, enough: int, missing: str
) -> str:
    """Return the state by the latest points: whether each is breaching, None where it is missing. Points
    before the first one are missing too."""
    real = [point for point in looked_at if point is not None]
    if len(real) >= periods:
        return ALARM if sum(real[-periods:]) >= enough else OK
    if missing in ("breaching", "notBreaching"):
        filled = periods - len(real) if missing == "breaching" else 0
        return ALARM if sum(real) + filled >= enough else OK
    if sum(real) >= enough:
        return ALARM
    if not all(real):
        return OK
    if missing == "ignore":
        return before
    # All that there is breaches: it raises the alarm once it is as old as the points that it takes.
    oldest = len(looked_at) - next((at for at, point in enumerate(looked_at) if point), len(looked_at))
    return ALARM if oldest >= enough and real else INSUFFICIENT


def _metrics(alarm: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        alarm,
        *(query["MetricStat"]["Metric"] for query in alarm.get("Metrics", ()) if "MetricStat" in query),
    ]


def raised(states: Sequence[str]) -> list[int]:
    """Return the number of periods after which an alarm goes into ALARM."""
    before = [INSUFFICIENT, *states]
    return [at for at in range(1, len(before)) if before[at] == ALARM != before[at - 1]]


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
