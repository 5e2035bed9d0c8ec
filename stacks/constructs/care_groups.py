"""The care side's security groups: of the link, of the probe, and of endpoints of AWS services."""

from __future__ import annotations

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from stacks.constructs.flows import HTTPS_PORT
from stacks.constructs.tenant_vpc import TenantVpc

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
