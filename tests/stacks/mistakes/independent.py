"""Forty mistakes that were written after the checks and the operators, to find gaps in both."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.stacks.mistakes.planted import DOMAIN, LISTENER, LOAD_BALANCER, TARGET_GROUP
from tests.stacks.mistakes.planted_in_models import CONFIG, ENDPOINT, MODEL
from tests.stacks.mistakes.planted_in_policies import (
    bucket_of_capture,
    bucket_policy,
    execution_role,
    model_role,
)
from tests.stacks.mistakes.scene import Raw, Scene, raw_properties

Change = Callable[[Scene], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    number: int
    name: str
    change: Change

    def __str__(self) -> str:
        return f"{self.number}-{self.name}"


WRITTEN: list[Written] = []


def mistake(number: int) -> Callable[[Change], Change]:
    def keep(change: Change) -> Change:
        WRITTEN.append(Written(number=number, name=change.__name__.replace("_", "-"), change=change))
        return change

    return keep


@mistake(1)
def the_alb_lets_the_tasks_in_and_not_the_nlb(scene: Scene) -> None:
    (alb,) = scene.groups_of(LOAD_BALANCER, LoadBalancerAttributes="idle_timeout.timeout_seconds")
    own = {"Fn::GetAtt": [alb.logical_id, "GroupId"]}
    scene.close(alb, "Ingress")
    rule = {"GroupId": own, "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "SourceSecurityGroupId": own}
    scene.add(alb, "IngressOfItself", "AWS::EC2::SecurityGroupIngress", rule)


@mistake(1)
def health_on_a_port_that_no_rule_opens(scene: Scene) -> None:
    scene.properties(TARGET_GROUP, TargetType="alb")["HealthCheckPort"] = "8080"


@mistake(2)
def groups_of_no_value(scene: Scene) -> None:
    scene.properties(LOAD_BALANCER, Type="network")["SecurityGroups"] = [{"Ref": "AWS::NoValue"}]


@mistake(3)
def consumers_let_in_on_another_port(scene: Scene) -> None:
    (group,) = scene.groups_of(LOAD_BALANCER, Type="network")
    scene.close(group, "Ingress")
    rule = {"IpProtocol": "tcp", "FromPort": 8443, "ToPort": 8443, "CidrIp": "0.0.0.0/0"}
    raw_properties(group)["SecurityGroupIngress"] = [rule]


@mistake(4)
def a_target_on_another_port_than_its_group(scene: Scene) -> None:
    scene.properties(TARGET_GROUP, TargetType="alb")["Targets"][0]["Port"] = 4443


@mistake(5)
def waiting_for_the_wrong_listener(scene: Scene) -> None:
    group = scene.one(TARGET_GROUP, TargetType="alb")
    group.raw["DependsOn"] = [target.logical_id for target in scene.groups_of(LOAD_BALANCER, Type="network")]  # type: ignore[index]


@mistake(6)
def a_second_tcp_listener_by_its_default(scene: Scene) -> None:
    nlb, first = scene.one(LOAD_BALANCER, Type="network"), scene.properties(LISTENER, Protocol="TCP")
    more = {key: value for key, value in first.items() if key != "ListenerAttributes"} | {"Port": 8443}
    scene.add(nlb, "SecondListener", LISTENER, more)


@mistake(8)
def a_zone_by_an_id_of_another_region(scene: Scene) -> None:
    subnet = scene.properties("AWS::EC2::Subnet")
    subnet.pop("AvailabilityZone")
    subnet["AvailabilityZoneId"] = "apse2-az1"


@mistake(8)
def zones_out_of_a_text(scene: Scene) -> None:
    zones = {"Fn::Split": [",", "eu-north-1a,eu-north-1b"]}
    scene.properties("AWS::EC2::Subnet")["AvailabilityZone"] = {"Fn::Select": [1, zones]}


@mistake(8)
def a_domain_in_one_subnet(scene: Scene) -> None:
    options = scene.properties(DOMAIN)["VPCOptions"]
    subnets = options["SubnetIds"]
    one = subnets[0] if isinstance(subnets, list) else {"Fn::Select": [0, subnets]}
    options["SubnetIds"] = [one, one, one]


@mistake(9)
def an_endpoint_in_another_vpc(scene: Scene) -> None:
    endpoint = scene.endpoint("ecr.api")
    scene.add(
        endpoint, "OtherVpc", "AWS::EC2::VPC", {"CidrBlock": "10.250.0.0/16", "EnableDnsHostnames": True}
    )
    raw_properties(endpoint)["VpcId"] = {"Ref": "OtherVpc"}


@mistake(9)
def an_endpoint_that_only_one_stage_has(scene: Scene) -> None:
    endpoint = scene.endpoint("ecr.dkr")
    (template,) = (one for one in scene.templates if one.path == endpoint.template.path)
    document: Raw = template.document  # type: ignore[assignment]
    parameter = {"Type": "String", "Default": "yes", "AllowedValues": ["yes", "no"]}
    document.setdefault("Parameters", {})["WithEndpoints"] = parameter
    condition = {"Fn::Not": [{"Fn::Equals": [{"Ref": "WithEndpoints"}, "no"]}]}
    document.setdefault("Conditions", {})["HasEndpoints"] = condition
    endpoint.raw["Condition"] = "HasEndpoints"  # type: ignore[index]


@mistake(9)
def a_right_on_a_service_without_an_endpoint(scene: Scene) -> None:
    arn = scene.one("AWS::ECS::TaskDefinition").properties["TaskRoleArn"]
    for role in scene.all("AWS::IAM::Role"):
        if role.logical_id in repr(arn):
            entry = {"Effect": "Allow", "Action": "textract:DetectDocumentText", "Resource": "*"}
            policy = {"PolicyName": "read", "PolicyDocument": {"Statement": entry}}
            raw_properties(role).setdefault("Policies", []).append(policy)


@mistake(10)
def a_policy_written_as_text(scene: Scene) -> None:
    entry = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::support-*"}
    raw_properties(scene.endpoint("s3"))["PolicyDocument"] = json.dumps({"Statement": [entry]})


@mistake(10)
def all_but_what_is_needed(scene: Scene) -> None:
    for statement in raw_properties(scene.endpoint("s3"))["PolicyDocument"]["Statement"]:
        statement.pop("Action")
        statement["NotAction"] = "s3:GetObject"


@mistake(10)
def only_from_another_vpc(scene: Scene) -> None:
    condition = {"StringEquals": {"aws:SourceVpc": "vpc-0123456789abcdef0"}}
    for statement in raw_properties(scene.endpoint("s3"))["PolicyDocument"]["Statement"]:
        statement["Condition"] = condition


@mistake(11)
def inferentia_in_a_pool(scene: Scene) -> None:
    variant = scene.variant()
    del variant["InstanceType"], variant["InferenceAmiVersion"]
    variant["InstancePools"] = [{"InstanceType": "ml.inf2.24xlarge", "Priority": 1}]


@mistake(12)
def a_public_image_latest(scene: Scene) -> None:
    scene.container()["Image"] = "public.ecr.aws/docker/library/python:latest"


@mistake(12)
def a_sidecar_without_a_tag(scene: Scene) -> None:
    containers = scene.properties("AWS::ECS::TaskDefinition")["ContainerDefinitions"]
    containers.append({"Name": "sidecar", "Image": "otel/opentelemetry-collector", "Essential": False})


@mistake(13)
def an_adapter_without_a_slash(scene: Scene) -> None:
    source = {"S3Uri": "s3://adapters/one", "S3DataType": "S3Prefix", "CompressionType": "None"}
    added = [{"ChannelName": "adapter", "S3DataSource": source}]
    scene.llm()["AdditionalModelDataSources"] = added


@mistake(13)
def a_model_by_its_page_on_the_hub(scene: Scene) -> None:
    scene.llm()["Environment"]["SM_VLLM_MODEL"] = "https://huggingface.co/Qwen/Qwen3-8B"


@mistake(14)
def two_batch_sizes(scene: Scene) -> None:
    scene.llm()["Environment"]["HF_BATCH_SIZE"] = "32"


@mistake(15)
def a_name_that_only_the_region_changes(scene: Scene) -> None:
    name = {"Fn::Join": ["-", ["llm", {"Ref": "AWS::Region"}]]}
    scene.properties(MODEL, PrimaryContainer="SM_ON_BATCH_SIZE")["ModelName"] = name


@mistake(16)
def a_second_endpoint_that_forgets(scene: Scene) -> None:
    first = scene.one(ENDPOINT)
    name = {"EndpointConfigName": raw_properties(first)["EndpointConfigName"]}
    scene.add(first, "SecondEndpoint", ENDPOINT, name)


@mistake(17)
def a_log_group_under_the_key_of_data(scene: Scene) -> None:
    key = scene.one("AWS::KMS::Key")
    root = {"AWS": {"Fn::Sub": "arn:aws:iam::${AWS::AccountId}:root"}}
    policy = {"Statement": [{"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"}]}
    scene.add(key, "OnlyForData", "AWS::KMS::Key", {"KeyPolicy": policy})
    scene.add(key, "OtherGroup", "AWS::Logs::LogGroup", {"KmsKeyId": {"Fn::GetAtt": ["OnlyForData", "Arn"]}})


@mistake(17)
def capture_into_another_bucket(scene: Scene) -> None:
    capture = scene.properties(CONFIG, DataCaptureConfig="DestinationS3Uri")["DataCaptureConfig"]
    capture["DestinationS3Uri"] = "s3://some-other-bucket/llm/"


@mistake(17)
def capture_within_a_boundary_of_reading(scene: Scene) -> None:
    role = model_role(scene)
    entry = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*", "kms:*"], "Resource": "*"}
    scene.add(role, "Boundary", "AWS::IAM::ManagedPolicy", {"PolicyDocument": {"Statement": [entry]}})
    raw_properties(role)["PermissionsBoundary"] = {"Ref": "Boundary"}


@mistake(17)
def a_capture_bucket_for_another_encryption(scene: Scene) -> None:
    bucket = bucket_of_capture(scene)
    condition = {"StringNotEquals": {"s3:x-amz-server-side-encryption": "AES256"}}
    entry = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": "*",
        "Condition": condition,
    }
    bucket_policy(scene, bucket)["Statement"].append(entry)


@mistake(18)
def everybody_but_one(scene: Scene) -> None:
    entry = {
        "Effect": "Allow",
        "NotPrincipal": {"AWS": "arn:aws:iam::1:role/x"},
        "Action": "es:*",
        "Resource": "*",
    }
    scene.properties(DOMAIN)["AccessPolicies"] = json.dumps({"Statement": [entry]})


@mistake(18)
def the_domain_open_on_another_port(scene: Scene) -> None:
    names = repr(scene.one(DOMAIN).properties["VPCOptions"])
    for group in scene.all("AWS::EC2::SecurityGroup"):
        if f"{group!r}" in names:
            scene.close(group, "Ingress")
            rule = {"IpProtocol": "tcp", "FromPort": 9200, "ToPort": 9300, "CidrIp": "10.0.0.0/8"}
            raw_properties(group)["SecurityGroupIngress"] = [rule]


@mistake(19)
def s3_logs_into_a_bucket_with_a_key(scene: Scene) -> None:
    bucket = scene.one("AWS::S3::Bucket", BucketEncryption="aws:kms")
    made = {
        "LoggingConfiguration": {"DestinationBucketName": {"Ref": bucket.logical_id}, "LogFilePrefix": "x/"}
    }
    scene.add(bucket, "LoggedBucket", "AWS::S3::Bucket", made)


@mistake(19)
def the_policy_on_another_bucket(scene: Scene) -> None:
    for policy in scene.all("AWS::S3::BucketPolicy"):
        if "elasticloadbalancing" in str(policy.raw):
            raw_properties(policy)["Bucket"] = "some-other-bucket"


@mistake(20)
def the_tasks_role_in_place_of_the_execution_role(scene: Scene) -> None:
    task = scene.properties("AWS::ECS::TaskDefinition")
    task["ExecutionRoleArn"] = task["TaskRoleArn"]


@mistake(20)
def a_log_group_that_the_role_does_not_know(scene: Scene) -> None:
    role = execution_role(scene)
    raw_properties(role).pop("ManagedPolicyArns", None)
    scene.container()["LogConfiguration"]["Options"]["awslogs-group"] = "/somebody/elses"


@mistake(21)
def a_serverless_function(scene: Scene) -> None:
    function = {"Handler": "index.handler", "Runtime": "python3.12", "InlineCode": "pass"}
    scene.add(scene.one("AWS::Lambda::Function"), "Quick", "AWS::Serverless::Function", function)


@mistake(22)
def a_second_listener_in_plaintext(scene: Scene) -> None:
    first = scene.one(LISTENER, Protocol="HTTPS")
    kept = {key: raw_properties(first)[key] for key in ("LoadBalancerArn", "DefaultActions")}
    scene.add(first, "SecondListener", LISTENER, kept | {"Port": 8080, "Protocol": "HTTP"})


@mistake(22)
def an_upstream_by_argument(scene: Scene) -> None:
    scene.container()["Command"] = ["serve", "--upstream", "http://wiki.internal:8080"]


@mistake(22)
def an_event_sent_by_http(scene: Scene) -> None:
    destination = {"InvocationEndpoint": "http://hook.internal/x", "HttpMethod": "POST", "ConnectionArn": "x"}
    scene.add(scene.one("AWS::ECS::Service"), "Hook", "AWS::Events::ApiDestination", destination)


@mistake(23)
def local_disks_in_a_pool(scene: Scene) -> None:
    variant = scene.variant()
    variant["InstancePools"] = [{"InstanceType": "ml.g5.4xlarge", "Priority": 1}]
