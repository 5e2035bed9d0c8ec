"""Mistakes 18 to 22 as changes to correct templates."""

from __future__ import annotations

from tests.stacks.mistakes.planted import DOMAIN, LISTENER, LOAD_BALANCER, TARGET_GROUP, plant
from tests.stacks.mistakes.scene import Raw, Scene, raw_properties

BUCKET = "AWS::S3::Bucket"
SERVICE = "AWS::ECS::Service"
TASK = "AWS::ECS::TaskDefinition"


@plant(18, "service-linked-role")
def service_linked_role_beside_the_domain(scene: Scene) -> None:
    service = {"AWSServiceName": "opensearchservice.amazonaws.com"}
    scene.add(scene.one(DOMAIN), "LinkedRole", "AWS::IAM::ServiceLinkedRole", service)


@plant(18, "log-policies")
def eleven_log_policies(scene: Scene) -> None:
    for number in range(11):
        policy = {"PolicyName": f"search-{number}", "PolicyDocument": "{}"}
        scene.add(scene.one(DOMAIN), f"Logs{number}", "AWS::Logs::ResourcePolicy", policy)


@plant(18, "burstable-with-standby")
def burstable_with_standby(scene: Scene) -> None:
    scene.properties(DOMAIN)["ClusterConfig"]["InstanceType"] = "t3.medium.search"


@plant(18, "open-access-policy")
def everybody_on_the_domain(scene: Scene) -> None:
    everybody = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "es:*", "Resource": "*"}
    scene.properties(DOMAIN)["AccessPolicies"] = {"Version": "2012-10-17", "Statement": [everybody]}


def _log_bucket(scene: Scene) -> Raw:
    """Return the bucket that takes the ALB's access logs, to be changed."""
    balancer = scene.one(LOAD_BALANCER, LoadBalancerAttributes="access_logs.s3.bucket")
    return next(
        raw_properties(one) for one in scene.all(BUCKET) if f"{one!r}" in repr(dict(balancer.properties))
    )


@plant(19, "log-bucket-key")
def log_bucket_with_a_key(scene: Scene) -> None:
    rule = {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/logs"}}
    _log_bucket(scene)["BucketEncryption"] = {"ServerSideEncryptionConfiguration": [rule]}


@plant(19, "log-bucket-object-lock")
def log_bucket_with_object_lock(scene: Scene) -> None:
    _log_bucket(scene)["ObjectLockEnabled"] = True


@plant(20, "read-only-without-tmp")
def read_only_root_without_tmp(scene: Scene) -> None:
    scene.container().pop("MountPoints")


@plant(20, "exec-without-rights")
def exec_without_rights(scene: Scene) -> None:
    scene.properties(SERVICE)["EnableExecuteCommand"] = True
    scene.forget_action("ssmmessages:OpenDataChannel")


@plant(20, "no-pull-rights")
def no_execution_role(scene: Scene) -> None:
    del scene.properties(TASK)["ExecutionRoleArn"]


@plant(20, "architecture-mismatch")
def another_architecture(scene: Scene) -> None:
    platform = scene.properties(TASK)["RuntimePlatform"]
    platform["CpuArchitecture"] = "ARM64" if platform["CpuArchitecture"] == "X86_64" else "X86_64"


@plant(22, "plaintext-hop")
def http_to_the_tasks(scene: Scene) -> None:
    scene.properties(TARGET_GROUP, TargetType="ip")["Protocol"] = "HTTP"


@plant(22, "plaintext-hop")
def http_at_the_alb(scene: Scene) -> None:
    scene.properties(LISTENER, Protocol="HTTPS")["Protocol"] = "HTTP"


@plant(22, "plaintext-hop")
def tls_that_ends_at_the_nlb(scene: Scene) -> None:
    scene.properties(LISTENER, Protocol="TCP")["Protocol"] = "TLS"


@plant(22, "plaintext-hop")
def search_without_https(scene: Scene) -> None:
    del scene.properties(DOMAIN)["DomainEndpointOptions"]


@plant(22, "plaintext-hop")
def address_without_tls(scene: Scene) -> None:
    scene.container()["Environment"].append({"Name": "WIKI", "Value": "http://wiki.internal/api"})


@plant(22, "deadline")
def answers_longer_than_the_drain(scene: Scene) -> None:
    group = scene.properties(TARGET_GROUP, TargetType="ip")
    group["TargetGroupAttributes"] = [{"Key": "deregistration_delay.timeout_seconds", "Value": "30"}]


@plant(22, "deadline")
def answers_of_three_minutes(scene: Scene) -> None:
    scene.know(answer_deadline_s=180.0)


@plant(22, "plaintext-hop")
def event_sent_by_http(scene: Scene) -> None:
    destination = {"InvocationEndpoint": "http://hook.internal/x", "HttpMethod": "POST", "ConnectionArn": "x"}
    scene.add(scene.one("AWS::ECS::Service"), "Hook", "AWS::Events::ApiDestination", destination)
