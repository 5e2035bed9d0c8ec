"""The probe: a function that asks one question through the private link, its triggers, and its alarms."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from assistant.settings.care_app import CareApp
from assistant.settings.deployed_names import NAMESPACE, PROBE_DEGRADED, PROBE_DIMENSION, PROBE_FAILED
from assistant.settings.functions import ProbeSettings
from stacks.function_package import PROBE
from stacks.functions import FunctionPlace, FunctionProgram, FunctionRole, VpcFunction, let_rule_call
from stacks.keys import administration
from stacks.observability.alarms import alarm_topic
from stacks.roles import allow, attach, parameter_arn
from stacks.tenant import DeployedTenant

_TIMEOUT_S = 60
_MAX_EVENT_AGE_S = 120
"""An event that could not be delivered for so long is dropped: the next one comes every five minutes."""
_ONLY_ES256 = {"StringEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256"}}
_FINISHED = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
_PERIOD_S = 300
"""Period of the alarms and of the probe: each period has one answer, or one more after a deployment."""


class LinkProbe(Construct):
    """``signing_key_id`` is the key whose public half the tenant's key set must contain.

    It has no reserved concurrency: a new account has 10 in all, of which Lambda keeps 10 unreserved, so the
    function would be refused there. A deployment that finishes several stacks asks as many questions.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        care: CareApp,
        place: FunctionPlace,
    ) -> None:
        super().__init__(scope, construct_id)
        self._tenant = tenant
        role = FunctionRole(self, "Role", description="Asks one question through the private link")
        key = self._signing_key(role)
        self.signing_key_id = key.key_id
        statements = [allow("kms:Sign", key.key_arn, conditions=_ONLY_ES256)]
        if certificate := care.config.probe.client_certificate_parameter:
            statements.append(allow("ssm:GetParameter", parameter_arn(self, certificate)))
        # Below the role, so that the function waits for it too. Attached by name: the key's policy refers to
        # the role, so the role must not refer to this policy.
        attach(role, "Calls", role.role_name, statements, description="What the probe itself calls")
        function = VpcFunction(
            self,
            "Ask",
            tenant=tenant,
            program=FunctionProgram(
                folder="ask_probe",
                timeout_s=_TIMEOUT_S,
                memory_mib=1024,  # half a CPU: the imports alone take seconds of one
                environment=self._environment(care, key),
                dependencies=PROBE,
            ),
            place=place,
            role=role,
        )
        self.function_name = function.function_name
        # The next probe comes anyway; a second attempt would only hide that the first one failed.
        lambda_.CfnEventInvokeConfig(
            self,
            "OneTry",
            function_name=function.function_name,
            qualifier="$LATEST",
            maximum_retry_attempts=0,
            maximum_event_age_in_seconds=_MAX_EVENT_AGE_S,
        )
        self._ask_on("EveryFiveMinutes", function, schedule="rate(5 minutes)")
        self._ask_on("AfterDeployment", function, pattern=self._deployments())

    def _signing_key(self, role: FunctionRole) -> kms.Key:
        """Create a key that only the probe may sign with: the assistant believes what it signs."""
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

    def _environment(self, care: CareApp, key: kms.Key) -> dict[str, str]:
        tenant, probe = self._tenant, care.config.probe
        values = {
            "service_url": f"https://{tenant.edge.host_name}",
            "tenant": tenant.name,
            "question": probe.question,
            "issuer": tenant.identity.issuer,
            "audience": tenant.identity.audience,
            "signing_key_id": key.key_arn,
            "region": tenant.place.region,
            "certificate_authority": care.certificate_authority,
            "client_certificate_parameter": probe.client_certificate_parameter,
        }
        return ProbeSettings.variables(values, known_later=cdk.Token.is_unresolved)

    def _deployments(self) -> dict[str, object]:
        """Return the pattern of a finished stack of this tenant in this account and region: the care side's,
        and the assistant's where it is deployed here too.

        Not a custom resource: that would have to reach a bucket of CloudFormation's from the VPC, would hang
        for an hour where it does not, and could not succeed before the other side has accepted the link.
        """
        prefix = cdk.Stack.of(self).format_arn(
            service="cloudformation", resource="stack", resource_name=f"{self._tenant.full_name}-"
        )
        return {
            "source": ["aws.cloudformation"],
            "detail-type": ["CloudFormation Stack Status Change"],
            "detail": {"stack-id": [{"prefix": prefix}], "status-details": {"status": list(_FINISHED)}},
        }

    def _ask_on(
        self,
        construct_id: str,
        function: VpcFunction,
        *,
        schedule: str | None = None,
        pattern: dict[str, object] | None = None,
    ) -> None:
        retries = events.CfnRule.RetryPolicyProperty(
            maximum_retry_attempts=2, maximum_event_age_in_seconds=_MAX_EVENT_AGE_S
        )
        rule = events.CfnRule(
            self,
            construct_id,
            schedule_expression=schedule,
            event_pattern=pattern,
            targets=[
                events.CfnRule.TargetProperty(arn=function.function_arn, id="Probe", retry_policy=retries)
            ],
        )
        let_rule_call(self, f"{construct_id}May", rule=rule, function=function.function_name)


def add_probe_alarms(
    scope: Construct, construct_id: str, *, tenant: DeployedTenant, key_arn: str, email: str | None
) -> None:
    """Create the alarms of docs/private-link.md. A paused assistant raises neither: the probe reports it, and
    no failure."""
    scope = Construct(scope, construct_id)
    topic = alarm_topic(
        scope,
        "Topic",
        key=kms.Key.from_key_arn(scope, "TopicKey", key_arn),
        display_name=f"Private link to {tenant.config.display_name}",
        email_id="Email",
        email=email,
    )
    no_answer = "No answer comes through the private link. docs/private-link.md, ProbeFailed"
    no_text = "Only sources come, no text. docs/private-link.md, ProbeDegraded"
    for name, metric, periods, missing, description in (
        ("Failed", PROBE_FAILED, 3, "breaching", no_answer),  # without any data the probe does not run
        ("Degraded", PROBE_DEGRADED, 2, "notBreaching", no_text),
    ):
        cloudwatch.CfnAlarm(
            scope,
            name,
            alarm_description=description,
            namespace=NAMESPACE,
            metric_name=metric,
            dimensions=[cloudwatch.CfnAlarm.DimensionProperty(name=PROBE_DIMENSION, value=tenant.name)],
            statistic="Maximum",
            period=_PERIOD_S,
            threshold=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            evaluation_periods=periods,
            datapoints_to_alarm=2,
            treat_missing_data=missing,
            alarm_actions=[topic.topic_arn],
            ok_actions=[topic.topic_arn],
        )
