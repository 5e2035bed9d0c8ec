"""The care side of the private link: in a VPC, and often an account, of its own.

Nothing here refers to a stack of the assistant: what it needs of it stands in ``care_app/<tenant>.toml`` (the
name of the endpoint service, which the assistant's deployment printed) and in the tenant file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from assistant.settings.care_app import CareApp, load_care_app
from stacks.acknowledgements.care_app import ROWS
from stacks.constructs.called_services import called_services
from stacks.constructs.care_groups import CareGroups
from stacks.constructs.flow_logs import FlowLogs
from stacks.constructs.key_statements import (
    administration,
    grants_for_services,
    published_by_alarms,
    use_by_deployment,
    use_by_logs,
    use_by_tenant,
)
from stacks.constructs.link_probe import LinkProbe, ProbedService
from stacks.constructs.private_link import PrivateLink
from stacks.constructs.probe_alarms import ProbeAlarms
from stacks.constructs.role_path import set_role_path
from stacks.constructs.tenant_stack import TenantStack
from stacks.constructs.tenant_vpc import TenantVpc
from stacks.constructs.vpc_endpoints import ServiceEndpoints
from stacks.constructs.vpc_function import FunctionPlace
from stacks.policy import acknowledge
from stacks.tenant import DeployedTenant


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
        acknowledge(self, ROWS)

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
