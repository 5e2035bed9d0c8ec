"""A queue with its dead-letter queue: under the tenant's key, over TLS only."""

from __future__ import annotations

from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.functions import FunctionRole, VpcFunction
from stacks.roles import allow_service

MAX_ATTEMPTS = 40
"""Deliveries before a message is a dead letter; equals ``assistant.knowledge.ports.MAX_ATTEMPTS``
(tested)."""
_RETENTION = cdk.Duration.days(14)
"""SQS's maximum, so that a weekend's failure is still there."""
_TIMEOUTS_OF_VISIBILITY = 6
"""Lambda's advice ("Creating and configuring an Amazon SQS event source mapping"): room for its retries while
the function is throttled."""


class TenantQueue(Construct):
    """``consumer_timeout_s`` is the timeout of the function that takes from it."""

    def __init__(
        self, scope: Construct, construct_id: str, *, data_key_arn: str, consumer_timeout_s: int
    ) -> None:
        super().__init__(scope, construct_id)
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
            visibility_timeout=cdk.Duration.seconds(_TIMEOUTS_OF_VISIBILITY * consumer_timeout_s),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=MAX_ATTEMPTS),
        )
        self.arn = self.queue.queue_arn
        self.url = self.queue.queue_url

    def fed_by(self, construct_id: str, *, pattern: events.EventPattern) -> None:
        """Create a rule that puts events of the pattern into the queue, and admit only this rule.

        CDK's own target would admit every rule of the account to an encrypted queue, and so another tenant's.
        """
        rule = events.Rule(self, construct_id, event_pattern=pattern)
        resource = cast("events.CfnRule", rule.node.default_child)
        resource.targets = [events.CfnRule.TargetProperty(id="Queue", arn=self.arn)]
        self.queue.add_to_resource_policy(
            allow_service(
                "events",
                "sqs:SendMessage",
                self.arn,
                sid=f"Feed{construct_id}",
                conditions={"ArnEquals": {"aws:SourceArn": rule.rule_arn}},
            )
        )

    def consumed_by(
        self,
        function: VpcFunction,
        *,
        role: FunctionRole,
        batch_size: int,
        concurrency: int,
        enabled: bool | cdk.IResolvable = True,
    ) -> lambda_.CfnEventSourceMapping:
        """Let the function take batches, ``concurrency`` (Lambda's minimum: 2) at once."""
        kinds = lambda_.CfnEventSourceMapping
        mapping = kinds(
            self,
            "Source",
            event_source_arn=self.arn,
            function_name=function.function_arn,
            enabled=enabled,
            batch_size=batch_size,
            function_response_types=["ReportBatchItemFailures"],
            scaling_config=kinds.ScalingConfigProperty(maximum_concurrency=concurrency),
        )
        # Lambda uses the role when it creates the mapping.
        mapping.node.add_dependency(role)
        return mapping


def object_created(*, bucket: str, key: object | None = None) -> events.EventPattern:
    """Return the pattern of S3's events of new objects; ``key`` filters their names in EventBridge's
    syntax."""
    detail: dict[str, object] = {"bucket": {"name": [bucket]}}
    if key is not None:
        detail["object"] = {"key": [key]}
    return events.EventPattern(source=["aws.s3"], detail_type=["Object Created"], detail=detail)
