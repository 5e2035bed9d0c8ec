"""What the alarms on runs that must happen say, hour by hour, as CloudWatch judges missing data.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html. The clock is a
list: the value that a run published in each hour since the alarm exists, or None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.stacks.values import resources_of

HOUR_S = 3600


def alarms_on_run(template: Mapping[str, Any], metric: str) -> list[Mapping[str, Any]]:
    """Return the properties of the template's alarms on the run that publishes the metric."""
    alarms = [one["Properties"] for one in resources_of(template, "AWS::CloudWatch::Alarm").values()]
    return [
        alarm
        for alarm in alarms
        for one in alarm.get("Metrics", ())
        if one["Id"] == "run" and one["MetricStat"]["Metric"]["MetricName"] == metric
    ]


def raised_in(
    alarm: Mapping[str, Any], published: Sequence[float | None], *, serving_from: int = 0
) -> list[int]:
    """Return the hours after which the alarm goes into ALARM.

    ``serving_from``: the first hour in which the balancer has data.
    """
    queries = {one["Id"]: one for one in alarm["Metrics"]}
    (told,) = [one for one in queries.values() if one.get("ReturnData", True)]
    serving = queries["serving"]["MetricStat"]
    assert (told["Expression"], queries["none"]["Expression"]) == ("SUM([run, none])", "0 * serving")
    assert serving["Metric"]["MetricName"] == "HealthyHostCount"
    assert {serving["Period"], queries["run"]["MetricStat"]["Period"]} == {HOUR_S}
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 1)
    periods: int = alarm["EvaluationPeriods"]
    assert alarm.get("DatapointsToAlarm", periods) == periods
    raised: list[int] = []
    stands = False
    for hour in range(1, len(published) + 1):
        breaching = [
            _breaching(published[at], serving=at >= serving_from, missing=alarm["TreatMissingData"])
            for at in range(hour - periods, hour)
            if at >= 0
        ]
        # Hours before the alarm existed have no data either.
        before = [alarm["TreatMissingData"] == "breaching"] * (periods - len(breaching))
        is_raised = all([*before, *breaching])
        if is_raised and not stands:
            raised.append(hour)
        stands = is_raised
    return raised


def _breaching(published: float | None, *, serving: bool, missing: str) -> bool:
    """Return whether an hour breaches: the sum of what has data, or the treatment of missing data."""
    values = [*([] if published is None else [published]), *([0.0] if serving else [])]
    return sum(values) < 1 if values else missing == "breaching"
