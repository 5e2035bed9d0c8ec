"""The edge stack, the only way in:

    care side's endpoint ═ endpoint service ─ NLB ─ TCP 443 ─ ALB (TLS ends) ─ HTTPS ─ tasks

An endpoint service takes no ALB, and an NLB does not understand HTTP: hence both, one behind the other.
Everything here is stateful: replacing it changes the service name that another account has pinned.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlsplit

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_elasticloadbalancingv2_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.network import HEALTH_PORT, HTTPS_PORT, TASK_PORT
from stacks.outputs import EdgeOutputs, NetworkOutputs, Workload
from stacks.policy import exceptions, hipaa, nag
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import TenantStack, pin

ACCESS_LOGS_PREFIX = "alb"
"""Folder of the logs bucket. The bucket's policy, in the data stack (``log_delivery``), admits the
balancers."""
_TLS_POLICY = elbv2.SslPolicy.TLS13_12_RES_PQ
"""TLS 1.3 and 1.2 with forward secrecy and AEAD only, and hybrid post-quantum key exchange where the client
supports it. 1.2 stays for the health checks of the NLB, which do not support 1.3 (NLB guide, "Health
checks")."""
_IDLE_TIMEOUT = cdk.Duration.seconds(120)
"""A whole answer in one JSON body sends no byte for up to 100 s. The tasks keep an idle connection longer
(`assistant.process.http`); else the balancer would sometimes send into a connection that has just been
closed."""
_DEREGISTRATION_DELAY = cdk.Duration.seconds(120)
"""Equal to the time that Fargate gives a task after SIGTERM. A task drains within 103 s, so the balancer cuts
no stream."""

_TCP_IDLE_TIMEOUT = cdk.Duration.seconds(350)
"""Longer than the ALB's, so that the ALB closes an idle connection first, and tells both ends. An NLB that
drops a connection silently leaves the client waiting."""


HEALTH_PATH = "/healthz"
"""Liveness only: an unavailable dependency must not remove the tasks."""


def health_check(*, timeout_s: int, port: str | None = None) -> elbv2.HealthCheck:
    """Return a check over HTTPS every 10 s. ``port``: None for the port of each target."""
    return elbv2.HealthCheck(
        protocol=elbv2.Protocol.HTTPS,
        path=HEALTH_PATH,
        port=port,
        healthy_http_codes="200",
        interval=cdk.Duration.seconds(10),
        timeout=cdk.Duration.seconds(timeout_s),
        healthy_threshold_count=2,
        unhealthy_threshold_count=3,
    )


class TlsFront(Construct):
    """The ALB that terminates TLS with the tenant's certificate, and the target group of the tasks.

    ``listener`` (port 443) receives what the NLB forwards. ``health_listener`` answers the NLB's health
    checks: it is the same one, or, where clients must show certificates, which a health check does not have,
    another one on port 8443 that forwards ``/healthz`` alone.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        vpc: ec2.IVpc,
        security_group_id: str,
        logs_bucket: str,
    ) -> None:
        super().__init__(scope, construct_id)
        self._tenant = tenant
        self.load_balancer = self._load_balancer(vpc, security_group_id)
        # Set as attributes, because `log_access_logs` would also change the bucket's policy, which the data
        # stack owns.
        self.load_balancer.set_attribute("access_logs.s3.enabled", "true")
        self.load_balancer.set_attribute("access_logs.s3.bucket", logs_bucket)
        self.load_balancer.set_attribute("access_logs.s3.prefix", ACCESS_LOGS_PREFIX)
        self.tasks = self._tasks(vpc)
        self._certificate = elbv2.ListenerCertificate.from_arn(tenant.edge.certificate_arn)
        self.listener = self._https(
            "Tls",
            port=HTTPS_PORT,
            mutual_authentication=self._client_certificates(),
            default_target_groups=[self.tasks],
        )
        self.health_listener = self._health_listener() if tenant.edge.client_certificates else self.listener

    def _load_balancer(self, vpc: ec2.IVpc, security_group_id: str) -> elbv2.ApplicationLoadBalancer:
        balancer = elbv2.ApplicationLoadBalancer(
            self,
            "LoadBalancer",
            vpc=vpc,
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            internet_facing=False,
            security_group=ec2.SecurityGroup.from_security_group_id(
                self, "Group", security_group_id, mutable=False
            ),
            drop_invalid_header_fields=True,
            desync_mitigation_mode=elbv2.DesyncMitigationMode.STRICTEST,
            # Behind PrivateLink X-Forwarded-For has an address of the NLB, or whatever the client wrote.
            xff_header_processing_mode=elbv2.XffHeaderProcessingMode.REMOVE,
            idle_timeout=_IDLE_TIMEOUT,
            deletion_protection=True,
        )
        pin(balancer, "ApplicationLoadBalancer")
        return balancer

    def _tasks(self, vpc: ec2.IVpc) -> elbv2.ApplicationTargetGroup:
        group = elbv2.ApplicationTargetGroup(
            self,
            "Tasks",
            vpc=vpc,
            target_type=elbv2.TargetType.IP,
            port=TASK_PORT,
            protocol=elbv2.ApplicationProtocol.HTTPS,
            # Answers take 1 to 100 s, so a new question goes to the task with the fewest in progress.
            load_balancing_algorithm_type=elbv2.TargetGroupLoadBalancingAlgorithmType.LEAST_OUTSTANDING_REQUESTS,
            deregistration_delay=_DEREGISTRATION_DELAY,
            health_check=health_check(timeout_s=5),
        )
        pin(group, "Tasks")
        return group

    def _https(self, construct_id: str, *, port: int, **properties: Any) -> elbv2.ApplicationListener:
        listener = self.load_balancer.add_listener(
            construct_id,
            port=port,
            protocol=elbv2.ApplicationProtocol.HTTPS,
            certificates=[self._certificate],
            ssl_policy=_TLS_POLICY,
            open=False,
            **properties,
        )
        pin(listener, f"{construct_id}Listener")
        return listener

    def _client_certificates(self) -> elbv2.MutualAuthentication | None:
        """Return the verification of client certificates; None where the tenant asks for none.

        ``[edge] client_certificates`` names the bundle of authorities: ``s3://acme-pki/clients.pem``.
        """
        bundle = self._tenant.edge.client_certificates
        if bundle is None:
            return None
        address = urlsplit(bundle)
        store = elbv2.TrustStore(
            self,
            "ClientAuthorities",
            bucket=s3.Bucket.from_bucket_name(self, "ClientAuthoritiesBucket", address.netloc),
            key=address.path.removeprefix("/"),
        )
        pin(store, "ClientAuthorities")
        return elbv2.MutualAuthentication(
            mutual_authentication_mode=elbv2.MutualAuthenticationMode.VERIFY, trust_store=store
        )

    def _health_listener(self) -> elbv2.ApplicationListener:
        refuse = elbv2.ListenerAction.fixed_response(404)
        listener = self._https("Health", port=HEALTH_PORT, default_action=refuse)
        listener.add_action(
            "HealthOnly",
            priority=1,
            conditions=[elbv2.ListenerCondition.path_patterns([HEALTH_PATH])],
            action=elbv2.ListenerAction.forward([self.tasks]),
        )
        return listener


class EdgeStack(TenantStack):
    """Both balancers and the endpoint service; outputs what the care side needs (docs/private-link.md)."""

    def __init__(
        self, scope: Construct, *, tenant: DeployedTenant, network: NetworkOutputs, logs_bucket: str
    ) -> None:
        super().__init__(scope, "Edge", tenant=tenant, data_class="phi", stateful=True)
        vpc = self.import_vpc(network)
        front = TlsFront(
            self,
            "TlsFront",
            tenant=tenant,
            vpc=vpc,
            security_group_id=network.security_group_ids[Workload.ALB],
            logs_bucket=logs_bucket,
        )
        nlb = self._network_load_balancer(vpc, network.security_group_ids[Workload.NLB])
        self._forward(nlb, front, vpc)
        service = self._endpoint_service(nlb)
        self.outputs = EdgeOutputs(
            target_group_arn=front.tasks.target_group_arn,
            load_balancer_full_name=front.load_balancer.load_balancer_full_name,
            target_group_full_name=front.tasks.target_group_full_name,
            endpoint_service_id=service.vpc_endpoint_service_id,
        )
        name = f"link.service_name of care_app/{tenant.name}.toml"
        accepted = "To accept the care side's endpoint with: docs/private-link.md"
        for output, value, description in (
            ("EndpointServiceName", service.vpc_endpoint_service_name, name),
            ("EndpointServiceId", service.vpc_endpoint_service_id, accepted),
            ("HostName", tenant.edge.host_name, "What the care side dials"),
        ):
            cdk.CfnOutput(self, output, value=value, description=description)

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

    def _forward(self, nlb: elbv2.NetworkLoadBalancer, front: TlsFront, vpc: ec2.IVpc) -> None:
        """Forward port 443 to the ALB as TCP. A target group of an ALB supports no attributes, so none is
        set."""
        target = elbv2.NetworkTargetGroup(
            self,
            "TlsFrontTargets",
            vpc=vpc,
            port=front.listener.port,
            protocol=elbv2.Protocol.TCP,
            targets=[targets.AlbListenerTarget(front.listener)],
            health_check=health_check(timeout_s=6, port=str(front.health_listener.port)),
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
        # not `default_child`, which is undefined because the construct has permissions as a second child
        resource = cast("ec2.CfnVPCEndpointService", service.node.find_child("EndpointService"))
        pin(resource, "EndpointService")
        if self.tenant.edge.service_private_dns:
            resource.private_dns_name = self.tenant.edge.host_name
        return service


EXCEPTIONS = (
    *exceptions(
        "Edge/NetworkLoadBalancer",
        (nag("ELB2"), hipaa("ELBLoggingEnabled"), "checkov::CKV_AWS_91"),
        "An NLB writes access logs for TLS listeners only, and this one passes TCP to the ALB, which logs "
        "every request; the flow logs of the VPC record its connections.",
    ),
    *exceptions(
        "Edge/NetworkLoadBalancer/PrivateLink",
        hipaa("ELBv2ACMCertificateRequired"),
        "TLS passes through this TCP listener and ends at the ALB, with the tenant's certificate: an NLB "
        "that terminated it would hold the plain text one hop earlier.",
    ),
)
