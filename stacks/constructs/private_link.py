"""The care side's end of the private link: an interface endpoint, and the assistant's host name for it."""

from __future__ import annotations

from collections.abc import Iterable

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_route53 as route53
from constructs import Construct

from stacks.constructs.care_groups import CareGroups
from stacks.constructs.tenant_vpc import TenantVpc


class PrivateLink(Construct):
    """Who dials ``host_name`` in the VPC comes to the assistant.

    The name is an alias in a private hosted zone of its own: it answers in this VPC alone, needs no consent
    of the assistant's side, and may stand before the connection is accepted. The service's own private DNS
    would need a public TXT record, and could be switched on only after acceptance.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: TenantVpc,
        groups: CareGroups,
        service_name: str,
        host_name: str,
        client_cidrs: Iterable[str],
    ) -> None:
        super().__init__(scope, construct_id)
        for cidr in client_cidrs:
            groups.let_clients_in(cidr)
        endpoint = ec2.CfnVPCEndpoint(
            self,
            "Endpoint",
            vpc_endpoint_type="Interface",
            service_name=service_name,
            vpc_id=vpc.id,
            subnet_ids=list(vpc.subnet_ids),
            security_group_ids=[groups.link],
            private_dns_enabled=False,
        )
        self.endpoint_id = endpoint.ref
        zone = route53.CfnHostedZone(
            self,
            "Zone",
            name=host_name,
            vpcs=[route53.CfnHostedZone.VPCProperty(vpc_id=vpc.id, vpc_region=cdk.Aws.REGION)],
        )
        # Each entry is `<hosted zone>:<name>`; the first is that of all zones.
        entry = cdk.Fn.split(":", cdk.Fn.select(0, endpoint.attr_dns_entries))
        route53.CfnRecordSet(
            self,
            "HostName",
            hosted_zone_id=zone.attr_id,
            name=host_name,
            type="A",
            alias_target=route53.CfnRecordSet.AliasTargetProperty(
                hosted_zone_id=cdk.Fn.select(0, entry), dns_name=cdk.Fn.select(1, entry)
            ),
        )
