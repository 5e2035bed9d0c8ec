"""The one way in: an endpoint service, an NLB, an ALB at which TLS ends, and HTTPS on to the tasks.

An endpoint service takes no ALB, and an NLB cannot look into HTTP: hence both, one behind the other. All of
it is stateful: replacing it changes the service name that another account has pinned.
"""

from __future__ import annotations

from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_elasticloadbalancingv2_targets as targets
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.flows import HTTPS_PORT
from stacks.constructs.pinned_id import pin
from stacks.constructs.tenant_stack import TenantStack
from stacks.constructs.tls_front import TlsFront
from stacks.outputs import DataOutputs, EdgeOutputs, KeysOutputs, NetworkOutputs, Workload
from stacks.tenant import DeployedTenant

_TCP_IDLE_TIMEOUT = cdk.Duration.seconds(350)
"""Longer than the ALB's: of the two, the ALB ends an idle connection first, and says so to both ends. An NLB
that drops one silently leaves the client waiting."""


class EdgeStack(TenantStack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
        network: NetworkOutputs,
        data: DataOutputs,
    ) -> None:
        super().__init__(
            scope, construct_id, tenant=tenant, data_class="phi", description="edge", stateful=True
        )
        del keys  # what stands here stores nothing; access logs go where only SSE-S3 can be written
        vpc = ec2.Vpc.from_vpc_attributes(
            self,
            "Vpc",
            vpc_id=network.vpc_id,
            availability_zones=list(tenant.place.zones),
            isolated_subnet_ids=list(network.subnet_ids),
            isolated_subnet_route_table_ids=_one_for_each(network.subnet_ids, network.route_table_ids),
        )
        front = TlsFront(
            self,
            "TlsFront",
            tenant=tenant,
            vpc=vpc,
            security_group_id=network.security_group_ids[Workload.ALB],
            logs_bucket=data.logs_bucket,
        )
        nlb = self._network_load_balancer(vpc, network.security_group_ids[Workload.NLB])
        self._pass_on(nlb, front, vpc)
        service = self._endpoint_service(nlb)
        self.outputs = EdgeOutputs(
            target_group_arn=front.tasks.target_group_arn,
            load_balancer_full_name=front.load_balancer.load_balancer_full_name,
            target_group_full_name=front.tasks.target_group_full_name,
            endpoint_service_id=service.vpc_endpoint_service_id,
            endpoint_service_name=service.vpc_endpoint_service_name,
        )
        self._say_what_the_care_side_needs()

    def _network_load_balancer(self, vpc: ec2.IVpc, security_group_id: str) -> elbv2.NetworkLoadBalancer:
        nlb = elbv2.NetworkLoadBalancer(
            self,
            "NetworkLoadBalancer",
            vpc=vpc,
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            internet_facing=False,
            # An NLB that was made without a group can never get one.
            security_groups=[
                ec2.SecurityGroup.from_security_group_id(
                    self, "NetworkLoadBalancerGroup", security_group_id, mutable=False
                )
            ],
            enforce_security_group_inbound_rules_on_private_link_traffic=True,
            cross_zone_enabled=True,
            deletion_protection=True,
        )
        pin(nlb, "NetworkLoadBalancer")
        return nlb

    def _pass_on(self, nlb: elbv2.NetworkLoadBalancer, front: TlsFront, vpc: ec2.IVpc) -> None:
        """Pass port 443 on to the ALB's as it is: no attribute of such a target group may be set."""
        target = elbv2.NetworkTargetGroup(
            self,
            "TlsFrontTargets",
            vpc=vpc,
            port=front.listener.port,
            protocol=elbv2.Protocol.TCP,
            targets=[targets.AlbListenerTarget(front.listener)],
            health_check=elbv2.HealthCheck(
                protocol=elbv2.Protocol.HTTPS,
                path=front.health_path,
                port=str(front.health_listener.port),
                healthy_http_codes="200",
                interval=cdk.Duration.seconds(10),
                timeout=cdk.Duration.seconds(6),
                healthy_threshold_count=2,
                unhealthy_threshold_count=3,
            ),
        )
        target.node.add_dependency(front.health_listener)
        pin(target, "TlsFrontTargets")
        listener = nlb.add_listener(
            "PrivateLink",
            port=HTTPS_PORT,
            protocol=elbv2.Protocol.TCP,
            tcp_idle_timeout=_TCP_IDLE_TIMEOUT,
            default_target_groups=[target],
        )
        pin(listener, "PrivateLinkListener")

    def _endpoint_service(self, nlb: elbv2.NetworkLoadBalancer) -> ec2.VpcEndpointService:
        service = ec2.VpcEndpointService(
            self,
            "EndpointService",
            vpc_endpoint_service_load_balancers=[nlb],
            acceptance_required=True,
            allowed_principals=[iam.ArnPrincipal(arn) for arn in self.tenant.edge.allowed_principals],
        )
        # not the construct's default child, because there are permissions beside it
        resource = cast("ec2.CfnVPCEndpointService", service.node.find_child("EndpointService"))
        pin(resource, "EndpointService")
        if self.tenant.edge.service_private_dns:
            resource.private_dns_name = self.tenant.edge.host_name
        return service

    def _say_what_the_care_side_needs(self) -> None:
        cdk.CfnOutput(
            self,
            "EndpointServiceName",
            value=self.outputs.endpoint_service_name,
            description=f"link.service_name of care_app/{self.tenant.name}.toml",
        )
        cdk.CfnOutput(
            self,
            "EndpointServiceId",
            value=self.outputs.endpoint_service_id,
            description="To accept the care side's endpoint with: docs/private-link.md",
        )
        cdk.CfnOutput(
            self, "HostName", value=self.tenant.edge.host_name, description="What the care side dials"
        )


def _one_for_each(subnet_ids: tuple[str, ...], route_table_ids: tuple[str, ...]) -> list[str]:
    """Return a route table id for each subnet; one table may serve all of them."""
    return [route_table_ids[number % len(route_table_ids)] for number, _ in enumerate(subnet_ids)]
