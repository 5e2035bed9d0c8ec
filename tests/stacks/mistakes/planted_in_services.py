"""Mistakes 18 to 22 as changes to correct templates."""

from __future__ import annotations

from typing import Any

from tests.stacks.mistakes.planted import DOMAIN, LISTENER, LOAD_BALANCER, TARGET_GROUP, plant
from tests.stacks.mistakes.scene import Raw, Scene, raw_properties

BUCKET = "AWS::S3::Bucket"
FUNCTION = "AWS::Lambda::Function"
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


@plant(18, "domain-ingress")
def nobody_reaches_the_domain(scene: Scene) -> None:
    (group,) = (
        one
        for one in scene.groups_of(DOMAIN)
        if one.logical_id in str(scene.one(DOMAIN).properties["VPCOptions"])
    )
    scene.close(group, "Ingress")


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


@plant(20, "exec-without-rights")
def exec_without_an_endpoint(scene: Scene) -> None:
    scene.properties(SERVICE)["EnableExecuteCommand"] = True
    for one in scene.all("AWS::EC2::VPCEndpoint"):
        if "ssmmessages" in str(one.properties["ServiceName"]):
            scene.remove(one)


@plant(20, "no-pull-rights")
def no_rights_to_pull(scene: Scene) -> None:
    for role in scene.all("AWS::IAM::Role"):
        arns = raw_properties(role).get("ManagedPolicyArns", [])
        arns[:] = [arn for arn in arns if "AmazonECSTaskExecutionRolePolicy" not in str(arn)]
    scene.forget_action("ecr:BatchGetImage")


@plant(20, "no-pull-rights")
def no_execution_role(scene: Scene) -> None:
    del scene.properties(TASK)["ExecutionRoleArn"]


@plant(20, "architecture-mismatch")
def another_architecture(scene: Scene) -> None:
    platform = scene.properties(TASK)["RuntimePlatform"]
    platform["CpuArchitecture"] = "ARM64" if platform["CpuArchitecture"] == "X86_64" else "X86_64"


@plant(21, "function-outside-vpc")
def function_outside_the_vpc(scene: Scene) -> None:
    del scene.properties(FUNCTION, VpcConfig="SubnetIds")["VpcConfig"]


@plant(21, "function-outside-vpc")
def helper_for_bucket_notifications(scene: Scene) -> None:
    bucket = scene.one(BUCKET)
    code: dict[str, Any] = {
        "Code": {"ZipFile": "pass"},
        "Handler": "index.handler",
        "Role": "arn:aws:iam::1:role/x",
    }
    scene.add(bucket, "BucketNotificationsHandler", FUNCTION, code)
    properties = {"ServiceToken": {"Fn::GetAtt": ["BucketNotificationsHandler", "Arn"]}}
    scene.add(bucket, "Notifications", "Custom::S3BucketNotifications", properties)


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
def search_between_nodes(scene: Scene) -> None:
    scene.properties(DOMAIN)["NodeToNodeEncryptionOptions"] = {"Enabled": False}


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
def answers_longer_than_the_stop(scene: Scene) -> None:
    del scene.container()["StopTimeout"]


@plant(22, "deadline")
def answers_of_three_minutes(scene: Scene) -> None:
    scene.know(answer_deadline_s=180.0)
