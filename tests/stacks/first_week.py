"""Judges a template's alarms, minute by minute, as CloudWatch does.

Missing data: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html.
Expressions: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.stacks.values import resources_of

HOUR = 60
"""Minutes."""
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


def alarms_on_run(template: Mapping[str, Any], metric: str) -> list[Mapping[str, Any]]:
    """Return the properties of the template's alarms on the run that publishes the metric."""
    alarms = [one["Properties"] for one in resources_of(template, "AWS::CloudWatch::Alarm").values()]
    return [alarm for alarm in alarms if any(part.get("MetricName") == metric for part in _metrics(alarm))]


def raised_in(
    alarm: Mapping[str, Any], published: Sequence[float | None], *, serving_from: int = 0
) -> list[int]:
    """Return the hours after which the alarm on a run goes into ALARM.

    ``published``: what the run published in each hour. ``serving_from``: the first hour in which the
    balancer has data.
    """

    def read(metric: Mapping[str, Any]) -> Samples:
        if metric["MetricName"] == "HealthyHostCount":
            return [(hour * HOUR, 2.0) for hour in range(serving_from, len(published))]
        return [(hour * HOUR, value) for hour, value in enumerate(published) if value is not None]

    points, period = points_of(alarm, read, minutes=len(published) * HOUR)
    assert period == HOUR
    return raised(states_of(alarm, points))


def raised(states: Sequence[str]) -> list[int]:
    """Return the number of periods after which an alarm goes into ALARM."""
    before = [INSUFFICIENT, *states]
    return [at for at in range(1, len(before)) if before[at] == ALARM != before[at - 1]]
