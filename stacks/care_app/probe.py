"""The probe: a function that asks one question through the private link, and what makes it ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from constructs import Construct

from assistant.settings.care_app import CareApp
from assistant.settings.deployed_names import NAMESPACE, PROBE_DEGRADED, PROBE_DIMENSION, PROBE_FAILED
from assistant.settings.functions import ProbeSettings
from stacks.function_package import PROBE
from stacks.functions import FunctionPlace, FunctionProgram, FunctionRole, VpcFunction
from stacks.keys import administration
from stacks.tenant import DeployedTenant

_LIMIT_S = 60
_OLDEST_S = 120
"""An event that could not be handed over for so long is dropped: the next one comes every five minutes."""
_ONLY_ES256 = {"StringEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256"}}
_FINISHED = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedService:
    """What the probe has to know of the assistant's side."""

    host_name: str
    issuer: str
    audience: str


class LinkProbe(Construct):
    """``signing_key_id`` is the key whose public half the tenant's key set must hold.

    No concurrency is reserved for it: a new account has 10 in all, of which Lambda keeps 10 unreserved, so
    the function would be refused there. A deployment that finishes several stacks asks as many questions.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        care: CareApp,
        service: ProbedService,
        place: FunctionPlace,
    ) -> None:
        super().__init__(scope, construct_id)
        self._tenant = tenant
        role = FunctionRole(self, "Role", description="Asks one question through the private link")
        key = self._signing_key(role)
        self.signing_key_id = key.key_id
        self._allow_calls(role, key, care.config.probe.client_certificate_parameter)
        function = VpcFunction(
            self,
            "Ask",
            tenant=tenant,
            program=FunctionProgram(
                folder="ask_probe",
                timeout_s=_LIMIT_S,
                memory_mib=1024,  # half a CPU: the imports alone take seconds of one
                environment=self._environment(care, service, key),
                dependencies=PROBE,
            ),
            place=place,
            role=role,
        )
        self.function_name = function.function_name
        # The next probe comes anyway; a second try of this one would only hide that the first one failed.
        lambda_.CfnEventInvokeConfig(
            self,
            "OneTry",
            function_name=function.function_name,
            qualifier="$LATEST",
            maximum_retry_attempts=0,
            maximum_event_age_in_seconds=_OLDEST_S,
        )
        self._ask_on("EveryFiveMinutes", function, schedule="rate(5 minutes)")
        self._ask_on("AfterDeployment", function, pattern=self._deployments())

    def _signing_key(self, role: FunctionRole) -> kms.Key:
        """Make a key that nobody but the probe may sign with: what it signs, the assistant believes."""
        key = kms.Key(
            self,
            "SigningKey",
            description="Signs the probe's tokens; its public half is in the tenant's key set",
            key_spec=kms.KeySpec.ECC_NIST_P256,
            key_usage=kms.KeyUsage.SIGN_VERIFY,
            removal_policy=cdk.RemovalPolicy.DESTROY,
            pending_window=cdk.Duration.days(7),
            policy=iam.PolicyDocument(statements=administration(self, self._tenant)),
        )
        signs = iam.PolicyStatement(
            sid="SignByProbe",
            actions=["kms:Sign"],
            resources=["*"],  # in a key's policy: this key
            conditions={**_ONLY_ES256, "ArnEquals": {"aws:PrincipalArn": role.role_arn}},
        )
        # The account and a condition: KMS refuses a principal that IAM does not show everywhere yet.
        signs.add_aws_account_principal(self._tenant.place.account)
        key.add_to_resource_policy(signs)
        return key

    def _allow_calls(self, role: FunctionRole, key: kms.Key, parameter: str | None) -> None:
        """Below the role, so that the function waits for it too."""
        statements = [
            iam.PolicyStatement(actions=["kms:Sign"], resources=[key.key_arn], conditions=_ONLY_ES256)
        ]
        if parameter is not None:
            statements.append(self._read_parameter(parameter))
        # Attached by name: the key's policy knows the role, so the role must not know this policy.
        iam.CfnManagedPolicy(
            role,
            "Calls",
            roles=[role.role_name],
            policy_document=iam.PolicyDocument(statements=statements),
            description="What the probe itself calls",
        )

    def _read_parameter(self, name: str) -> iam.PolicyStatement:
        arn = cdk.Stack.of(self).format_arn(
            service="ssm", resource="parameter", resource_name=name.removeprefix("/")
        )
        return iam.PolicyStatement(actions=["ssm:GetParameter"], resources=[arn])

    def _environment(self, care: CareApp, service: ProbedService, key: kms.Key) -> dict[str, str]:
        probe = care.config.probe
        optional = {
            "certificate_authority": care.certificate_authority,
            "client_certificate_parameter": probe.client_certificate_parameter,
        }
        return ProbeSettings.variables(
            {
                "service_url": f"https://{service.host_name}",
                "tenant": self._tenant.name,
                "question": probe.question,
                "issuer": service.issuer,
                "audience": service.audience,
                "signing_key_id": key.key_arn,
                "region": self._tenant.place.region,
                **{name: value for name, value in optional.items() if value is not None},
            },
            known_later={"signing_key_id"},
        )

    def _deployments(self) -> dict[str, object]:
        """Return the pattern of a stack of this tenant that is finished, in this account and region: those
        of the care side, and of the assistant where it stands here too.

        Not a custom resource: that would have to reach a bucket of CloudFormation's from the VPC, would hang
        for an hour where it does not, and could not succeed before the other side has accepted the link.
        """
        place = self._tenant.place
        stacks = cdk.Stack.of(self).format_arn(
            service="cloudformation",
            resource="stack",
            resource_name=f"{place.name_prefix}-{self._tenant.name}-",
        )
        return {
            "source": ["aws.cloudformation"],
            "detail-type": ["CloudFormation Stack Status Change"],
            "detail": {"stack-id": [{"prefix": stacks}], "status-details": {"status": list(_FINISHED)}},
        }

    def _ask_on(
        self,
        construct_id: str,
        function: VpcFunction,
        *,
        schedule: str | None = None,
        pattern: dict[str, object] | None = None,
    ) -> None:
        rule = events.CfnRule(
            self,
            construct_id,
            schedule_expression=schedule,
            event_pattern=pattern,
            targets=[
                events.CfnRule.TargetProperty(
                    arn=function.function_arn,
                    id="Probe",
                    retry_policy=events.CfnRule.RetryPolicyProperty(
                        maximum_retry_attempts=2, maximum_event_age_in_seconds=_OLDEST_S
                    ),
                )
            ],
        )
        lambda_.CfnPermission(
            self,
            f"{construct_id}May",
            action="lambda:InvokeFunction",
            function_name=function.function_name,
            principal="events.amazonaws.com",
            source_arn=rule.attr_arn,
        )


# What the probe's figures mean, and who is told. Each alarm has its entry in docs/private-link.md.


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
