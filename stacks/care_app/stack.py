"""The care side's security groups: of the link, of the probe, and of endpoints of AWS services."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_route53 as route53
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from assistant.settings.care_app import CareApp, LinkSection, load_care_app
from stacks.care_app.probe import LinkProbe, ProbeAlarms, ProbedService
from stacks.functions import FunctionPlace
from stacks.keys import (
    administration,
    grants_for_services,
    published_by_alarms,
    use_by_deployment,
    use_by_logs,
    use_by_tenant,
)
from stacks.network.endpoints import ServiceEndpoints, called_services
from stacks.network.security_groups import HTTPS_PORT
from stacks.network.vpc import FlowLogs, TenantVpc
from stacks.policy import Acknowledgement, acknowledge
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import TenantStack, set_role_path

_NOBODY = ec2.CfnSecurityGroup.EgressProperty(
    ip_protocol="icmp",
    from_port=252,
    to_port=86,
    cidr_ip="255.255.255.255/32",
    description="Leads nowhere: a group without any egress rule in its template is open to everywhere",
)


class CareGroups(Construct):
    """``link`` takes the clients' connections and the probe's; nothing opens one from it.

    ``endpoints`` is of endpoints of AWS services that are made here, where the VPC is. In a VPC of the care
    team's own they were there before: their groups are not known, and have to let the probe in.
    """

    def __init__(self, scope: Construct, construct_id: str, *, vpc: TenantVpc) -> None:
        super().__init__(scope, construct_id)
        self._vpc_id = vpc.id
        self.link = self._group("Link", "Private link to the assistant")
        self.probe = self._group("Probe", "Asks one question through the link")
        self._let_probe_reach("Link", self.link)
        if vpc.is_own:
            self.endpoints: str | None = self._group("Endpoints", "Interface endpoints of AWS services")
            self._let_probe_reach("Endpoints", self.endpoints)
        else:
            self.endpoints = None
            self._let_probe_out(vpc.cidr)

    def let_clients_in(self, cidr: str) -> None:
        """Let a range of the care side's addresses dial the assistant."""
        ec2.CfnSecurityGroupIngress(
            self,
            f"{cidr.replace('.', '-').replace('/', '-')}ToLinkIn",
            group_id=self.link,
            ip_protocol="tcp",
            from_port=HTTPS_PORT,
            to_port=HTTPS_PORT,
            cidr_ip=cidr,
            description="Clients of the assistant",
        )

    def _group(self, name: str, description: str) -> str:
        group = ec2.CfnSecurityGroup(
            self, name, group_description=description, vpc_id=self._vpc_id, security_group_egress=[_NOBODY]
        )
        return group.attr_group_id

    def _let_probe_out(self, cidr: str) -> None:
        ec2.CfnSecurityGroupEgress(
            self,
            "ProbeToVpcOut",
            group_id=self.probe,
            ip_protocol="tcp",
            from_port=HTTPS_PORT,
            to_port=HTTPS_PORT,
            cidr_ip=cidr,
            description="Probe to endpoints that were there",
        )

    def _let_probe_reach(self, name: str, target_id: str) -> None:
        description = f"Probe to {name}"
        ec2.CfnSecurityGroupIngress(
            self,
            f"ProbeTo{name}In",
            group_id=target_id,
            ip_protocol="tcp",
            from_port=HTTPS_PORT,
            to_port=HTTPS_PORT,
            source_security_group_id=self.probe,
            description=description,
        )
        ec2.CfnSecurityGroupEgress(
            self,
            f"ProbeTo{name}Out",
            group_id=self.probe,
            ip_protocol="tcp",
            from_port=HTTPS_PORT,
            to_port=HTTPS_PORT,
            destination_security_group_id=target_id,
            description=description,
        )


# The care side's end of the private link: an interface endpoint, and the assistant's host name for it.


class PrivateLink(Construct):
    """Who dials ``host_name`` in the VPC comes to the assistant.

    By default the name is an alias in a private hosted zone of its own: it answers in this VPC alone, needs
    no consent of the assistant's side, and may stand before the connection is accepted. The service's own
    private DNS needs a public TXT record, and can be switched on only after acceptance.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: TenantVpc,
        groups: CareGroups,
        link: LinkSection,
        host_name: str,
    ) -> None:
        super().__init__(scope, construct_id)
        for cidr in link.client_cidrs:
            groups.let_clients_in(cidr)
        endpoint = ec2.CfnVPCEndpoint(
            self,
            "Endpoint",
            vpc_endpoint_type="Interface",
            service_name=link.service_name,
            vpc_id=vpc.id,
            subnet_ids=list(vpc.subnet_ids),
            security_group_ids=[groups.link],
            private_dns_enabled=link.names == "service",
        )
        self.endpoint_id = endpoint.ref
        # Each entry is `<hosted zone>:<name>`; the first is that of all zones.
        entry = cdk.Fn.split(":", cdk.Fn.select(0, endpoint.attr_dns_entries))
        self.endpoint_name = cdk.Fn.select(1, entry)
        if link.names == "zone":
            self._add_zone(vpc, host_name, zone_of_alias=cdk.Fn.select(0, entry))

    def _add_zone(self, vpc: TenantVpc, host_name: str, *, zone_of_alias: str) -> None:
        zone = route53.CfnHostedZone(
            self,
            "Zone",
            name=host_name,
            vpcs=[route53.CfnHostedZone.VPCProperty(vpc_id=vpc.id, vpc_region=cdk.Aws.REGION)],
        )
        route53.CfnRecordSet(
            self,
            "HostName",
            hosted_zone_id=zone.attr_id,
            name=host_name,
            type="A",
            alias_target=route53.CfnRecordSet.AliasTargetProperty(
                hosted_zone_id=zone_of_alias, dns_name=self.endpoint_name
            ),
        )


# The care side of the private link: in a VPC, and often an account, of its own.


class CareAppStage(cdk.Stage):
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
        # Else CDK asks an account for the zones, or invents them.
        zones_of = f"availability-zones:account={place.account}:region={place.region}"
        self.node.set_context(zones_of, list(place.zones))
        # Read by the stack's synthesizer: whose bootstrap's roles and bucket it is deployed with.
        self.node.set_context("@aws-cdk/core:bootstrapQualifier", place.bootstrap_qualifier)
        CareAppStack(self, "Link", tenant=on_care_side(tenant, care), care=care)
        for key, value in on_care_side(tenant, care).tags().items():
            cdk.Tags.of(self).add(key, value)
        set_role_path(self, path=place.role_path)
        acknowledge(self, EXCEPTIONS)

    @classmethod
    def for_tenants(
        cls, scope: Construct, tenants: Iterable[DeployedTenant], *, folder: Path, is_asked_for: bool
    ) -> None:
        """Make a stage for each tenant that has a file in ``folder``; one that was asked for must have it.

        Raises ConfigurationError naming file and key.
        """
        by_name = {tenant.name: tenant for tenant in tenants}
        names = set(by_name) if is_asked_for else {path.stem for path in folder.glob("*.toml")}
        if not names:
            raise ConfigurationError(f"{folder}: there is no file of a care side (<tenant>.toml).")
        for name in sorted(names):
            path = folder / f"{name}.toml"
            if name not in by_name:
                raise ConfigurationError(f"{path}: there is no tenant of this name.")
            cls(scope, tenant=by_name[name], care=load_care_app(path, tenant=by_name[name].config))


def on_care_side(tenant: DeployedTenant, care: CareApp) -> DeployedTenant:
    """Return the tenant as it stands on the care side: in that account, in that network."""
    config = tenant.config.model_copy(
        update={"deployment": care.config.deployment, "network": care.config.network, "reach": ()}
    )
    return replace(tenant, config=config, place=care.config.deployment)


class CareAppStack(TenantStack):
    """``tenant`` is the tenant on the care side."""

    def __init__(self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, care: CareApp) -> None:
        super().__init__(scope, construct_id, tenant=tenant, data_class="internal", description="care side")
        self._care = care
        key = self._key()
        vpc = TenantVpc(self, "Network", tenant=tenant)
        if vpc.is_own:
            watched = {"Vpc": ("VPC", vpc.id)}
            FlowLogs(self, "FlowLogs", tenant=tenant, logs_key_arn=key.key_arn, watched=watched)
        groups = CareGroups(self, "Groups", vpc=vpc)
        link = PrivateLink(
            self,
            "PrivateLink",
            vpc=vpc,
            groups=groups,
            link=care.config.link,
            host_name=tenant.edge.host_name,
        )
        probe = self._probe(vpc, groups, key)
        ProbeAlarms(self, "Alarms", tenant=tenant, key_arn=key.key_arn, email=care.config.probe.alarm_email)
        self._add_ways_to_aws(vpc, groups)
        self._say_what_the_assistant_s_side_needs(link, probe)

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

    def _probe(self, vpc: TenantVpc, groups: CareGroups, key: kms.Key) -> LinkProbe:
        tenant = self.tenant
        return LinkProbe(
            self,
            "Probe",
            tenant=tenant,
            care=self._care,
            service=ProbedService(
                host_name=tenant.edge.host_name,
                issuer=tenant.identity.issuer,
                audience=tenant.identity.audience,
            ),
            place=FunctionPlace(
                subnet_ids=vpc.subnet_ids,
                security_group_id=groups.probe,
                logs_key_arn=key.key_arn,
                environment_key_arn=key.key_arn,
            ),
        )

    def _add_ways_to_aws(self, vpc: TenantVpc, groups: CareGroups) -> None:
        called = called_services(self)
        if groups.endpoints is not None:
            ServiceEndpoints(
                self,
                "ServiceEndpoints",
                tenant=self.tenant,
                vpc=vpc,
                security_group_id=groups.endpoints,
                called=called,
            )
            return
        named = self.tenant.config.network.endpoints
        missing = [service.service for service in called if service.service not in named]
        if missing:
            raise ConfigurationError(
                f"care_app/{self.tenant.name}.toml: network.endpoints must name the VPC's endpoint of "
                f"{', '.join(missing)}: one made here, for the probe alone, would by its private DNS take "
                "over that service for everything else in the VPC."
            )

    def _say_what_the_assistant_s_side_needs(self, link: PrivateLink, probe: LinkProbe) -> None:
        cdk.CfnOutput(
            self, "EndpointId", value=link.endpoint_id, description="To be accepted by the assistant's side"
        )
        cdk.CfnOutput(
            self,
            "EndpointName",
            value=link.endpoint_name,
            description=f"What {self.tenant.edge.host_name} leads to",
        )
        cdk.CfnOutput(
            self,
            "ProbeKeyId",
            value=probe.signing_key_id,
            description="Its public half goes into the tenant's key set: docs/private-link.md",
        )
        cdk.CfnOutput(
            self, "ProbeFunctionName", value=probe.function_name, description="Asks at once when invoked"
        )


# Findings that stay in the care_app stack, each with its reason.


EXCEPTIONS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Link/Probe/Ask/Function",
        findings=("AwsSolutions::AwsSolutions-L1",),
        reason="Python 3.13 is the newest that the package supports; Lambda runs it until 2029-06-30.",
    ),
    Acknowledgement(
        construct="Link/Probe/Ask/Function",
        findings=("HIPAA.Security::HIPAA.Security-LambdaDLQ", "checkov::CKV_AWS_116"),
        reason=(
            "A probe that was not handed over is of no use later: the next one comes within five minutes, "
            "and one that does not come at all is missing data, at which the alarm goes off."
        ),
    ),
    Acknowledgement(
        construct="Link/Probe/Ask/Function",
        findings=("HIPAA.Security::HIPAA.Security-LambdaConcurrency", "checkov::CKV_AWS_115"),
        reason=(
            "A new account has 10 concurrent executions, all of which Lambda keeps unreserved: it would "
            "refuse the function. Who asks bounds it: a rule every five minutes, and one question for each "
            "stack that a deployment finishes."
        ),
    ),
    Acknowledgement(
        construct="Link/Probe/Ask/Platform",
        findings=("AwsSolutions::AwsSolutions-IAM5[Resource::*]", "checkov::CKV_AWS_111"),
        reason=(
            "Lambda's own calls for a function in a VPC: neither network interfaces before they are made nor "
            "X-Ray know resources. The function's code is denied the former."
        ),
    ),
    Acknowledgement(
        construct="Link/Network/Vpc",
        findings=("HIPAA.Security::HIPAA.Security-VPCDefaultSecurityGroupClosed",),
        reason=(
            "No template can empty the default group: it fires on every VPC. CDK would do it by a function "
            "outside the VPC, which the product does not run. Nothing here carries that group."
        ),
    ),
    Acknowledgement(
        construct="Link/Network/NetworkAcl",
        findings=("AwsSolutions::AwsSolutions-VPC3",),
        reason=(
            "A warning to use network ACLs sparingly. There is one: a second wall that holds if a security "
            "group is opened by hand."
        ),
    ),
)
