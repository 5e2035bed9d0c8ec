"""The ALB at which TLS ends with the tenant's certificate, and the tasks behind it."""

from __future__ import annotations

from urllib.parse import urlsplit

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.constructs.flows import HEALTH_PORT, HTTPS_PORT, TASK_PORT
from stacks.constructs.pinned_id import pin
from stacks.tenant import DeployedTenant

ACCESS_LOGS_PREFIX = "alb"
"""In the logs bucket; its policy, which is the data stack's, lets the balancer's account write there."""
_TLS_POLICY = elbv2.SslPolicy.TLS13_12_RES_PQ
"""TLS 1.3 and 1.2 with forward secrecy and AEAD only, hybrid post-quantum key exchange where the client has
it. Without 1.2 the health checks of an NLB fail: they do not speak 1.3 (NLB guide, "Health checks")."""
_IDLE_TIMEOUT = cdk.Duration.seconds(120)
"""A whole answer in one JSON body sends no byte for up to 100 s. The tasks keep an idle connection longer
(`assistant.http_process`), or the balancer would now and then send into one that has just been closed."""
_DEREGISTRATION_DELAY = cdk.Duration.seconds(120)
"""As long as a task may live after SIGTERM on Fargate: its drain, 103 s, ends within it, and no stream is
cut by the balancer before."""


class TlsFront(Construct):
    """``listener`` takes what comes through the NLB; ``health_listener`` is the same one, or where client
    certificates are verified, one that answers nothing but the health check."""

    health_path = "/healthz"
    """Alive, and no more: a dependency that is down must not take the tasks out."""

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
        # Set as attributes: `log_access_logs` would also change the policy of the bucket.
        self.load_balancer.set_attribute("access_logs.s3.enabled", "true")
        self.load_balancer.set_attribute("access_logs.s3.bucket", logs_bucket)
        self.load_balancer.set_attribute("access_logs.s3.prefix", ACCESS_LOGS_PREFIX)
        self.tasks = self._tasks(vpc)
        self._certificate = elbv2.ListenerCertificate.from_arn(tenant.edge.certificate_arn)
        self.listener = self._listener()
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
            # Behind PrivateLink it names an address of the NLB, or whatever the client wrote.
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
            # Answers last from one second to a hundred: a new one goes where the fewest are.
            load_balancing_algorithm_type=elbv2.TargetGroupLoadBalancingAlgorithmType.LEAST_OUTSTANDING_REQUESTS,
            deregistration_delay=_DEREGISTRATION_DELAY,
            health_check=elbv2.HealthCheck(
                protocol=elbv2.Protocol.HTTPS,
                path=self.health_path,
                healthy_http_codes="200",
                interval=cdk.Duration.seconds(10),
                timeout=cdk.Duration.seconds(5),
                healthy_threshold_count=2,
                unhealthy_threshold_count=3,
            ),
        )
        pin(group, "Tasks")
        return group

    def _listener(self) -> elbv2.ApplicationListener:
        listener = self.load_balancer.add_listener(
            "Tls",
            port=HTTPS_PORT,
            protocol=elbv2.ApplicationProtocol.HTTPS,
            certificates=[self._certificate],
            ssl_policy=_TLS_POLICY,
            mutual_authentication=self._client_certificates(),
            default_target_groups=[self.tasks],
            open=False,
        )
        pin(listener, "TlsListener")
        return listener

    def _client_certificates(self) -> elbv2.MutualAuthentication | None:
        bundle = self._tenant.edge.client_certificates
        if bundle is None:
            return None
        place = urlsplit(bundle)
        store = elbv2.TrustStore(
            self,
            "ClientAuthorities",
            bucket=s3.Bucket.from_bucket_name(self, "ClientAuthoritiesBucket", place.netloc),
            key=place.path.removeprefix("/"),
        )
        pin(store, "ClientAuthorities")
        return elbv2.MutualAuthentication(
            mutual_authentication_mode=elbv2.MutualAuthenticationMode.VERIFY, trust_store=store
        )

    def _health_listener(self) -> elbv2.ApplicationListener:
        listener = self.load_balancer.add_listener(
            "Health",
            port=HEALTH_PORT,
            protocol=elbv2.ApplicationProtocol.HTTPS,
            certificates=[self._certificate],
            ssl_policy=_TLS_POLICY,
            default_action=elbv2.ListenerAction.fixed_response(404),
            open=False,
        )
        listener.add_action(
            "HealthOnly",
            priority=1,
            conditions=[elbv2.ListenerCondition.path_patterns([self.health_path])],
            action=elbv2.ListenerAction.forward([self.tasks]),
        )
        pin(listener, "HealthListener")
        return listener
