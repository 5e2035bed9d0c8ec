"""The ways out of the tenant's VPC: endpoints of AWS services, and of the company's systems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from assistant.settings.deployment import ReachEntry
from stacks.constructs.called_services import GATEWAYS, CalledService
from stacks.constructs.endpoint_policies import endpoint_policy
from stacks.constructs.pinned_id import pin
from stacks.constructs.tenant_vpc import TenantVpc
from stacks.tenant import DeployedTenant

MOST_ENDPOINTS = 50
"""Interface endpoints in one VPC (Amazon VPC quotas)."""


class ServiceEndpoints(Construct):
    """An endpoint for each service that is called, unless the tenant file names one that is there."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        vpc: TenantVpc,
        security_group_id: str,
        called: Sequence[CalledService],
    ) -> None:
        super().__init__(scope, construct_id)
        self._vpc = vpc
        self._security_group_id = security_group_id
        existing = tenant.config.network.endpoints
        names = {service.service for service in called}
        _check_existing(existing, called=names)
        _check_number(names - GATEWAYS, reached=tenant.config.reach)
        for service in called:
            if service.service not in existing:
                policy = endpoint_policy(service, tenant=tenant, pulls_images="ecr.dkr" in names)
                self._make(service.service, policy)

    def _make(self, service: str, policy: dict[str, Any]) -> None:
        name = _pascal_case(service)
        if service in GATEWAYS:
            endpoint = ec2.CfnVPCEndpoint(
                self,
                name,
                vpc_endpoint_type="Gateway",
                service_name=ec2.GatewayVpcEndpointAwsService(service).name,
                vpc_id=self._vpc.id,
                route_table_ids=list(self._vpc.route_table_ids),
                policy_document=policy,
            )
        else:
            endpoint = ec2.CfnVPCEndpoint(
                self,
                name,
                vpc_endpoint_type="Interface",
                service_name=ec2.InterfaceVpcEndpointAwsService(service).name,
                vpc_id=self._vpc.id,
                subnet_ids=list(self._vpc.subnet_ids),
                security_group_ids=[self._security_group_id],
                private_dns_enabled=True,
                policy_document=policy,
            )
        pin(endpoint, f"{name}Endpoint")
        cdk.Tags.of(endpoint).add("Name", service)


class ReachEndpoint(Construct):
    """The way to one internal system: an endpoint service, or a resource of VPC Lattice."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        entry: ReachEntry,
        vpc: TenantVpc,
        security_group_id: str,
    ) -> None:
        super().__init__(scope, construct_id)
        by_service = entry.service_name is not None
        endpoint = ec2.CfnVPCEndpoint(
            self,
            "Endpoint",
            vpc_endpoint_type="Interface" if by_service else "Resource",
            service_name=entry.service_name,
            resource_configuration_arn=entry.resource_configuration_arn,
            vpc_id=vpc.id,
            subnet_ids=list(vpc.subnet_ids),
            security_group_ids=[security_group_id],
            # The provider's own name needs the provider's consent; the endpoint's name always answers.
            private_dns_enabled=False if by_service else None,
        )
        pin(endpoint, f"Reach{_pascal_case(entry.name)}Endpoint")
        cdk.Tags.of(endpoint).add("Name", entry.name)
        if by_service:
            # As `<hosted zone>:<name>`; the first one is that of all zones.
            cdk.CfnOutput(
                self, "Names", value=cdk.Fn.join(",", endpoint.attr_dns_entries), description=entry.name
            )


def _check_existing(existing: Iterable[str], *, called: set[str]) -> None:
    unknown = sorted(set(existing) - called)
    if unknown:
        raise ConfigurationError(
            f"[network.endpoints] {', '.join(unknown)}: nothing of this tenant calls that. It calls "
            f"{', '.join(sorted(called))}."
        )


def _check_number(interfaces: set[str], *, reached: Sequence[ReachEntry]) -> None:
    number = len(interfaces) + len(reached)
    if number > MOST_ENDPOINTS:
        raise ConfigurationError(
            f"{number} interface endpoints ({len(interfaces)} of AWS services, {len(reached)} of [[reach]]): "
            f"a VPC holds {MOST_ENDPOINTS}. Put several systems behind one endpoint service."
        )


def _pascal_case(name: str) -> str:
    return "".join(part.capitalize() for part in name.replace(".", "-").split("-"))
