"""A queue with the one of its dead letters: under the tenant's key, by TLS alone."""

from __future__ import annotations

from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.functions import FunctionRole, VpcFunction
from stacks.models.power import PowerSwitch

MAX_ATTEMPTS = 40
"""Deliveries before a message is a dead letter; ``assistant.knowledge.ports.MAX_ATTEMPTS``, a test says."""
_RETENTION = cdk.Duration.days(14)
"""The longest that SQS knows: a weekend's failure is still there."""
_VISIBILITY_FOR_EACH_TIMEOUT = 6
"""Lambda's own advice, "Creating and configuring an Amazon SQS event source mapping": room for its retries
while the function is throttled."""


class TenantQueue(Construct):
    """``consumer_timeout_s`` is that of the function which takes from it."""

    def __init__(
        self, scope: Construct, construct_id: str, *, data_key_arn: str, consumer_timeout_s: int
    ) -> None:
        super().__init__(scope, construct_id)
        self._key_arn = data_key_arn
        key = kms.Key.from_key_arn(self, "Key", data_key_arn)
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=key,
            enforce_ssl=True,
            retention_period=_RETENTION,
        )
        self.queue = sqs.Queue(
            self,
            "Queue",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=key,
            enforce_ssl=True,
            retention_period=_RETENTION,
            visibility_timeout=cdk.Duration.seconds(_VISIBILITY_FOR_EACH_TIMEOUT * consumer_timeout_s),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=MAX_ATTEMPTS),
        )

    @property
    def arn(self) -> str:
        return self.queue.queue_arn

    @property
    def url(self) -> str:
        return self.queue.queue_url

    def fed_by(self, construct_id: str, *, pattern: events.EventPattern) -> events.Rule:
        """Let this one rule put events of the pattern into the queue.

        CDK's own target would let every rule of the account do so where a queue is encrypted, and so those
        of another tenant.
        """
        rule = events.Rule(self, construct_id, event_pattern=pattern)
        resource = cast("events.CfnRule", rule.node.default_child)
        resource.targets = [events.CfnRule.TargetProperty(id="Queue", arn=self.arn)]
        statement = iam.PolicyStatement(
            sid=f"Feed{construct_id}",
            actions=["sqs:SendMessage"],
            resources=[self.arn],
            conditions={"ArnEquals": {"aws:SourceArn": rule.rule_arn}},
        )
        statement.add_service_principal("events.amazonaws.com")
        self.queue.add_to_resource_policy(statement)
        return rule

    def consumed_by(
        self,
        function: VpcFunction,
        *,
        role: FunctionRole,
        batch_size: int,
        concurrency: int,
        switch: PowerSwitch | None = None,
    ) -> lambda_.CfnEventSourceMapping:
        """Let the function take batches, ``concurrency`` at once (2 at least, says Lambda); not while a
        ``switch`` is off."""
        mapping = lambda_.CfnEventSourceMapping(
            self,
            "Source",
            event_source_arn=self.arn,
            function_name=function.function_arn,
            enabled=True if switch is None else switch.enabled,
            batch_size=batch_size,
            function_response_types=["ReportBatchItemFailures"],
            scaling_config=lambda_.CfnEventSourceMapping.ScalingConfigProperty(
                maximum_concurrency=concurrency
            ),
        )
        # Lambda tries the role when it makes the mapping.
        mapping.node.add_dependency(role)
        return mapping


def object_created(*, bucket: str, key: object | None = None) -> events.EventPattern:
    """Return the pattern of S3's events of new objects; ``key`` filters their names, as EventBridge does."""
    detail: dict[str, object] = {"bucket": {"name": [bucket]}}
    if key is not None:
        detail["object"] = {"key": [key]}
    return events.EventPattern(source=["aws.s3"], detail_type=["Object Created"], detail=detail)
