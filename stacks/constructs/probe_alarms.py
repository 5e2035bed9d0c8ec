"""What the probe's figures mean, and who is told. Each alarm has its entry in docs/private-link.md."""

from __future__ import annotations

from typing import Literal

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct

from assistant.settings.deployed_names import NAMESPACE
from assistant.settings.functions import PROBE_DEGRADED, PROBE_DIMENSION, PROBE_FAILED
from stacks.tenant import DeployedTenant

_PERIOD_S = 300
"""Of the probe too: each period has one answer, or one more after a deployment."""


class ProbeAlarms(Construct):
    """A paused assistant trips neither: the probe then says so, and that nothing failed."""

    def __init__(
        self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, key_arn: str, email: str | None
    ) -> None:
        super().__init__(scope, construct_id)
        self._tenant = tenant
        self._topic = sns.Topic(
            self,
            "Topic",
            display_name=f"Private link to {tenant.config.display_name}",
            master_key=kms.Key.from_key_arn(self, "TopicKey", key_arn),
            enforce_ssl=True,
        )
        self._let_alarms_tell()
        if email is not None:
            sns.CfnSubscription(
                self, "Email", topic_arn=self._topic.topic_arn, protocol="email", endpoint=email
            )
        self._alarm(
            "Failed",
            PROBE_FAILED,
            out_of=3,
            # no figure at all: the probe itself does not run
            missing="breaching",
            description="No answer comes through the private link. docs/private-link.md, ProbeFailed",
        )
        self._alarm(
            "Degraded",
            PROBE_DEGRADED,
            out_of=2,
            missing="notBreaching",
            description="Only sources come, no text. docs/private-link.md, ProbeDegraded",
        )

    def _let_alarms_tell(self) -> None:
        """A topic with a policy of its own, which refuses plain HTTP, has lost the default one, by which the
        account's alarms may publish."""
        statement = iam.PolicyStatement(
            sid="AlarmsTell",
            actions=["sns:Publish"],
            resources=[self._topic.topic_arn],
            conditions={"StringEquals": {"aws:SourceAccount": cdk.Stack.of(self).account}},
        )
        statement.add_service_principal("cloudwatch.amazonaws.com")
        self._topic.add_to_resource_policy(statement)

    def _alarm(
        self,
        construct_id: str,
        metric: str,
        *,
        out_of: int,
        missing: Literal["breaching", "notBreaching"],
        description: str,
    ) -> None:
        cloudwatch.CfnAlarm(
            self,
            construct_id,
            alarm_description=description,
            namespace=NAMESPACE,
            metric_name=metric,
            dimensions=[cloudwatch.CfnAlarm.DimensionProperty(name=PROBE_DIMENSION, value=self._tenant.name)],
            statistic="Maximum",
            period=_PERIOD_S,
            threshold=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            evaluation_periods=out_of,
            datapoints_to_alarm=2,
            treat_missing_data=missing,
            alarm_actions=[self._topic.topic_arn],
            ok_actions=[self._topic.topic_arn],
        )
