"""The care side's end of the private link: an interface endpoint, and the assistant's host name for it."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_route53 as route53
from constructs import Construct

from assistant.settings.care_app import LinkSection
from stacks.constructs.care_groups import CareGroups
from stacks.constructs.tenant_vpc import TenantVpc


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
