"""A function called every so many minutes."""

from __future__ import annotations

from aws_cdk import aws_events as events
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stacks.constructs.vpc_function import VpcFunction


class FunctionSchedule(Construct):
    """As resources: CDK's target wants a function of its own kind."""

    def __init__(self, scope: Construct, construct_id: str, *, function: VpcFunction, minutes: int) -> None:
        super().__init__(scope, construct_id)
        rule = events.CfnRule(
            self,
            "Rule",
            schedule_expression=f"rate({minutes} minutes)",
            targets=[events.CfnRule.TargetProperty(arn=function.function_arn, id="Function")],
        )
        lambda_.CfnPermission(
            self,
            "Call",
            action="lambda:InvokeFunction",
            function_name=function.function_arn,
            principal="events.amazonaws.com",
            source_arn=rule.attr_arn,
        )
