"""An alarm with a runbook entry, silent for want of data."""

from __future__ import annotations

from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from stacks.runbook import described


class RunbookAlarm(cloudwatch.Alarm):
    """Breaches at ``threshold`` or more (or at less, with ``below``) in ``periods`` periods in a row.

    Missing data never breach: an endpoint that is paused, and a store that nobody asks, tell nothing.
    ``part`` tells alarms of one entry apart.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        anchor: str,
        metric: cloudwatch.IMetric,
        threshold: float,
        periods: int = 1,
        below: bool = False,
        part: str = "",
    ) -> None:
        comparison = cloudwatch.ComparisonOperator
        super().__init__(
            scope,
            "".join(word.capitalize() for word in anchor.split("-")) + part,
            alarm_description=described(anchor),
            metric=metric,
            threshold=threshold,
            evaluation_periods=periods,
            comparison_operator=comparison.LESS_THAN_THRESHOLD
            if below
            else comparison.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )

    def tell(self, topic_arn: str) -> None:
        """Tell the topic when it goes off, and when it is over."""
        resource = cast("cloudwatch.CfnAlarm", self.node.default_child)
        resource.alarm_actions = [topic_arn]
        resource.ok_actions = [topic_arn]


def sum_of(name: str, metrics: dict[str, cloudwatch.IMetric], *, minutes: int) -> cloudwatch.MathExpression:
    """Return the sum of metrics, those without data left out."""
    return cloudwatch.MathExpression(
        expression=f"SUM([{', '.join(metrics)}])",
        using_metrics=metrics,
        label=name,
        period=cdk.Duration.minutes(minutes),
    )
