"""The care side of the private link, in a VPC and often an account of its own: the link's endpoint, a probe
that asks questions through it, and alarms of the probe.

Nothing here refers to a stack of the assistant: ``care_app/<tenant>.toml`` (the name of the endpoint service,
which the assistant's deployment printed) and the tenant file contain what it needs. docs/private-link.md has
the whole picture:

    application ─┐
                 ├─ interface endpoint (here) ═ private link ═ the assistant's endpoint service
    probe (here) ┘
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from assistant.process.settings import ProbeSettings
from assistant.tenant.care_app import CareApp, load_care_app
from assistant.tenant.deployed_names import NAMESPACE, PROBE_DEGRADED, PROBE_DIMENSION, PROBE_FAILED
from stacks.function_package import PROBE
from stacks.functions import FunctionPlace, FunctionProgram, FunctionRole, VpcFunction, let_rule_call
from stacks.keys import (
    administration,
    grants_for_services,
    published_by_alarms,
    use_by_deployment,
    use_by_logs,
    use_by_tenant,
)
from stacks.network import Rule, allow_between, allow_in, allow_out, cidr_id, create_group
from stacks.observability.alarms import alarm_topic
from stacks.policy import (
    ANY_RESOURCE,
    DEFAULT_GROUP,
    LAMBDA_PLATFORM,
    PYTHON_RUNTIME,
    acknowledge,
    exceptions,
    hipaa,
    nag,
)
from stacks.roles import ONLY_ES256, allow, attach, parameter_arn
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import TenantStack, prepare_stage, tenant_of
from stacks.vpc import (
    ServiceEndpoints,
    TenantVpc,
    called_services,
    endpoint_name,
    name_in_vpc,
    record_flows,
)

_TIMEOUT_S = 60
"""Timeout of the probe's function."""
_MAX_EVENT_AGE_S = 120
"""An event that could not be delivered for so long is dropped; the next one comes within five minutes."""
_DEPLOYED = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
_PERIOD_S = 300
"""Period of the alarms, equal to the interval of the probe: each period has one answer, or more after a
deployment."""


class LinkProbe(Construct):
    """A function that asks one question through the link: every five minutes, and after each deployed stack.

    ``signing_key_id`` is the key whose public half the tenant's key set must contain. The function has no
    reserved concurrency: a new account has 10 in all, of which Lambda keeps 10 unreserved, so it would be
    refused there.
    """

    def __init__(self, scope: Construct, construct_id: str, *, care: CareApp, place: FunctionPlace) -> None:
        super().__init__(scope, construct_id)
        self._tenant = tenant_of(self)
        role = FunctionRole(self, "Role", description="Asks one question through the private link")
        key = self._signing_key(role.role_arn)
        self.signing_key_id = key.key_id
        statements = [allow("kms:Sign", key.key_arn, conditions=ONLY_ES256)]
        if certificate := care.config.probe.client_certificate_parameter:
            statements.append(allow("ssm:GetParameter", parameter_arn(self, certificate)))
        # Created as a child of the role, because VpcFunction makes its function depend on the policies that
        # it finds there. Attached by the role's name: the policy refers to the key, and the key's policy to
        # the role, so the role must not refer to this policy too.
        attach(role, "Calls", role, statements, description="What the probe itself calls")
        function = VpcFunction(
            self,
            "Ask",
            program=FunctionProgram(
                module="ask_probe",
                timeout_s=_TIMEOUT_S,
                environment=self._environment(care, key),
                dependencies=PROBE,
            ),
            place=place,
            role=role,
        )
        self.function_name = function.function_name
        # No retry: the next probe comes anyway, and a second attempt would hide that the first one failed.
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

    def _signing_key(self, role_arn: str) -> kms.Key:
        """Create a key that only the probe may sign with. The assistant trusts tokens signed by it, once its
        public half is in the tenant's key set."""
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
            conditions={**ONLY_ES256, "ArnEquals": {"aws:PrincipalArn": role_arn}},
        )
        # The account with a condition, in place of the role as principal: KMS refuses a key policy whose
        # principal is so new that IAM does not show it everywhere.
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
        """Return the event pattern of a deployed stack of this tenant in this account and region: the care
        side's, and the assistant's where it is deployed here too.

        A custom resource would not do: from the VPC its function would have to reach a bucket of
        CloudFormation's, or the deployment hangs for an hour; and it would fail until the other side has
        accepted the link.
        """
        prefix = cdk.Stack.of(self).format_arn(
            service="cloudformation", resource="stack", resource_name=f"{self._tenant.full_name}-"
        )
        return {
            "source": ["aws.cloudformation"],
            "detail-type": ["CloudFormation Stack Status Change"],
            "detail": {"stack-id": [{"prefix": prefix}], "status-details": {"status": list(_DEPLOYED)}},
        }

    def _ask_on(
        self,
        construct_id: str,
        function: VpcFunction,
        *,
        schedule: str | None = None,
        pattern: dict[str, object] | None = None,
    ) -> None:
        """Create a rule that calls the probe: by a ``schedule`` or by an event ``pattern``, one of them."""
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


def add_probe_alarms(scope: Construct, construct_id: str, *, key_arn: str, email: str | None) -> None:
    """Create the alarms of docs/private-link.md. Each is raised by two bad probes among the last ``periods``.

    A paused assistant raises neither, because the probe then reports no failure.
    """
    scope = Construct(scope, construct_id)
    tenant = tenant_of(scope)
    topic = alarm_topic(
        scope,
        "Topic",
        key=kms.Key.from_key_arn(scope, "TopicKey", key_arn),
        display_name=f"Private link to {tenant.config.display_name}",
        email_id="Email",
        email=email,
    )
    no_answer = (
        "No answer comes through the private link, or the probe has no data. On until the link is accepted "
        "and the probe's key is published. docs/private-link.md, ProbeFailed"
    )
    no_text = (
        "Only sources come, no text. On until a document answers the probe's question. "
        "docs/private-link.md, ProbeDegraded"
    )
    for name, metric, periods, missing, description in (
        ("Failed", PROBE_FAILED, 3, "breaching", no_answer),  # no data: the probe itself does not run
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


class CareAppStage(cdk.Stage):
    """The care side of one tenant: one stack, in the care side's account and region."""

    def __init__(self, scope: Construct, *, tenant: DeployedTenant, care: CareApp) -> None:
        place = care.config.deployment
        boundary = place.permissions_boundary
        super().__init__(
            scope,
            f"{tenant.config.stage_id}Care",
            env=cdk.Environment(account=place.account, region=place.region),
            stage_name=f"{place.name_prefix}-{tenant.name}-care",
            permissions_boundary=cdk.PermissionsBoundary.from_name(boundary) if boundary else None,
        )
        tenant_there = on_care_side(tenant, care)
        prepare_stage(self, tenant_there, role_path=place.role_path)
        CareAppStack(self, "Link", tenant=tenant_there, care=care)
        acknowledge(self, EXCEPTIONS)

    @classmethod
    def for_tenants(
        cls, scope: Construct, tenants: Iterable[DeployedTenant], *, folder: Path, is_requested: bool
    ) -> None:
        """Create a stage for each tenant that has a file in ``folder``; with ``is_requested`` every tenant
        must.

        Raises ConfigurationError naming file and key.
        """
        by_name = {tenant.name: tenant for tenant in tenants}
        names = set(by_name) if is_requested else {path.stem for path in folder.glob("*.toml")}
        if not names:
            raise ConfigurationError(f"{folder}: there is no file of a care side (<tenant>.toml).")
        for name in sorted(names):
            path = folder / f"{name}.toml"
            if name not in by_name:
                raise ConfigurationError(f"{path}: there is no tenant of this name.")
            cls(scope, tenant=by_name[name], care=load_care_app(path, tenant=by_name[name].config))


def on_care_side(tenant: DeployedTenant, care: CareApp) -> DeployedTenant:
    """Return the tenant with the account and network of the care side, so that constructs which read the
    tenant of their stack (``tenant_of``) are created there."""
    config = tenant.config.model_copy(
        update={"deployment": care.config.deployment, "network": care.config.network, "reach": ()}
    )
    return replace(tenant, config=config, place=care.config.deployment)


class CareAppStack(TenantStack):
    """Network, link, probe and alarms. ``tenant``: as ``on_care_side`` returns it."""

    def __init__(self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, care: CareApp) -> None:
        super().__init__(scope, construct_id, tenant=tenant, data_class="internal", description="care side")
        self._care = care
        key = self._key()
        vpc = TenantVpc(self, "Network")
        if vpc.is_own:
            recorded = {"Vpc": ("VPC", vpc.id)}
            record_flows(self, "FlowLogs", logs_key_arn=key.key_arn, recorded=recorded)
        groups = CareGroups(self, "Groups", vpc=vpc, client_cidrs=care.config.link.client_cidrs)
        self._add_link(vpc, groups)
        probe = LinkProbe(
            self,
            "Probe",
            care=care,
            place=FunctionPlace(
                subnet_ids=vpc.subnet_ids,
                security_group_id=groups.probe,
                logs_key_arn=key.key_arn,
                environment_key_arn=key.key_arn,
            ),
        )
        add_probe_alarms(self, "Alarms", key_arn=key.key_arn, email=care.config.probe.alarm_email)
        self._add_service_endpoints(vpc, groups)  # last: roles above have added their calls to ``callers``
        self._output(
            "ProbeKeyId",
            probe.signing_key_id,
            "Its public half goes into the tenant's key set: docs/private-link.md",
        )
        self._output("ProbeFunctionName", probe.function_name, "Asks at once when invoked")

    def _key(self) -> kms.Key:
        tenant = self.tenant
        return kms.Key(
            self,
            "Key",
            description=f"{tenant.config.display_name}, care side: logs, alarms, settings of the probe",
            enable_key_rotation=True,
            policy=iam.PolicyDocument(
                statements=[
                    *administration(self, tenant),
                    *grants_for_services(self, tenant),
                    use_by_tenant(tenant),
                    use_by_deployment(self, tenant, through=["lambda"]),
                    use_by_logs(self, tenant),
                    *published_by_alarms(self, tenant),
                ]
            ),
        )

    def _add_link(self, vpc: TenantVpc, groups: CareGroups) -> None:
        """Create the interface endpoint, and the assistant's host name for it in the VPC.

        By default the name is an alias in a private hosted zone of its own: it answers in this VPC only,
        needs no consent of the assistant's side, and may exist before the connection is accepted. The
        service's own private DNS needs a public TXT record, and can be enabled only after acceptance.
        """
        link, host_name = self._care.config.link, self.tenant.edge.host_name
        scope = Construct(self, "PrivateLink")
        endpoint = ec2.CfnVPCEndpoint(
            scope,
            "Endpoint",
            vpc_endpoint_type="Interface",
            service_name=link.service_name,
            vpc_id=vpc.id,
            subnet_ids=list(vpc.subnet_ids),
            security_group_ids=[groups.link],
            private_dns_enabled=link.names == "service",
        )
        if link.names == "zone":
            name_in_vpc(scope, host_name, endpoint_name(endpoint), vpc_id=vpc.id)
        self._output("EndpointId", endpoint.ref, "To be accepted by the assistant's side")
        self._output("EndpointName", endpoint_name(endpoint).dns_name, f"What {host_name} leads to")

    def _add_service_endpoints(self, vpc: TenantVpc, groups: CareGroups) -> None:
        """Create the endpoints of the AWS services that roles of the stack call, in a VPC of its own. In the
        care team's VPC check that the file names one for each instead.

        Raises ConfigurationError.
        """
        called = called_services(self.callers)
        if groups.endpoints is not None:
            ServiceEndpoints(
                self, "ServiceEndpoints", vpc=vpc, security_group_id=groups.endpoints, called=called
            )
            return
        existing = self.tenant.config.network.endpoints
        missing = [service.service for service in called if service.service not in existing]
        if missing:
            raise ConfigurationError(
                f"care_app/{self.tenant.name}.toml: network.endpoints must name the VPC's endpoint of "
                f"{', '.join(missing)}: one made here, for the probe alone, would by its private DNS take "
                "over that service for everything else in the VPC."
            )

    def _output(self, construct_id: str, value: str, description: str) -> None:
        cdk.CfnOutput(self, construct_id, value=value, description=description)


class CareGroups(Construct):
    """Security groups of the care side.

    ``link`` admits the clients' connections and the probe's; it opens none. ``endpoints`` is for endpoints of
    AWS services in a VPC that this stack creates; None in the care team's VPC, where endpoints exist already
    with groups that are unknown here and must admit the probe.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, vpc: TenantVpc, client_cidrs: Iterable[str]
    ) -> None:
        super().__init__(scope, construct_id)
        self._vpc_id = vpc.id
        self.link = self._group("Link", "Private link to the assistant")
        self.probe = self._group("Probe", "Asks one question through the link")
        self._let_probe_reach("Link", self.link)
        self.endpoints: str | None = None
        if vpc.is_own:
            self.endpoints = self._group("Endpoints", "Interface endpoints of AWS services")
            self._let_probe_reach("Endpoints", self.endpoints)
        else:
            description = "Probe to endpoints that were there"
            allow_out(self, "ProbeToVpcOut", self.probe, Rule(cidr=vpc.cidr, description=description))
        for cidr in client_cidrs:
            name = f"{cidr_id(cidr)}ToLinkIn"
            allow_in(self, name, self.link, Rule(cidr=cidr, description="Clients of the assistant"))

    def _group(self, name: str, description: str) -> str:
        return create_group(self, name, description, vpc_id=self._vpc_id).attr_group_id

    def _let_probe_reach(self, name: str, target_id: str) -> None:
        allow_between(self, f"ProbeTo{name}", self.probe, target_id, description=f"Probe to {name}")


EXCEPTIONS = (
    *exceptions("Link/Probe/Ask/Function", nag("L1"), PYTHON_RUNTIME),
    *exceptions(
        "Link/Probe/Ask/Function",
        (hipaa("LambdaDLQ"), "checkov::CKV_AWS_116"),
        "A probe that was not delivered is of no use later: the next one comes within five minutes, and if "
        "none comes, the missing data raises the alarm.",
    ),
    *exceptions(
        "Link/Probe/Ask/Function",
        (hipaa("LambdaConcurrency"), "checkov::CKV_AWS_115"),
        "A new account has 10 concurrent executions, all of which Lambda keeps unreserved: it would refuse "
        "the function. The callers limit it: a rule every five minutes, and one question for each stack "
        "that a deployment finishes.",
    ),
    *exceptions("Link/Probe/Ask/Platform", ANY_RESOURCE, LAMBDA_PLATFORM),
    *exceptions(
        "Link/Network/Vpc",
        DEFAULT_GROUP,
        "No template can empty the default group: the rule fires on every VPC. CDK would do it by a "
        "function outside the VPC, which the product does not run. Nothing here uses that group.",
    ),
    *exceptions(
        "Link/Network/NetworkAcl",
        nag("VPC3"),
        "A warning to use network ACLs sparingly. There is one: a second check that holds if a security "
        "group is opened by hand.",
    ),
)
