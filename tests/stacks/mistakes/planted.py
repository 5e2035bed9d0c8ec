"""The mistakes as changes to correct templates. Each finds its resources by type, in any templates."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assistant.cli.aws.templates import prove
from template_checks.facts import Facts, Finding, Status
from template_checks.rules import check_rules
from template_checks.templates import (
    Resource,
    Target,
    Template,
    Templates,
    World,
    items,
    read_templates,
    text,
)

Raw = dict[str, Any]


class Scene:
    """A set of templates with its facts. Every change is made to a copy of the documents."""

    def __init__(self, templates: Sequence[Template], *, facts: Facts) -> None:
        self.templates = [
            # Twice as fast as a deep copy.
            replace(template, document=pickle.loads(pickle.dumps(template.document)))  # noqa: S301
            for template in templates
        ]
        self.facts = facts

    @classmethod
    def read(cls, paths: Sequence[Path], *, facts: Facts) -> Scene:
        return cls(read_templates(paths), facts=facts)

    def copy(self) -> Scene:
        return Scene(self.templates, facts=self.facts)

    def broken(self) -> list[Finding]:
        """Return what breaks a rule of an AWS service."""
        return check_rules(self.world(), facts=self.facts)

    def refused(self) -> list[Finding]:
        """Return everything that a deployment refuses: broken rules, and paths opened or missing."""
        paths = prove(self.world(), facts=self.facts).findings
        return [*self.broken(), *(one for one in paths if one.status is Status.REFUSED)]

    def world(self) -> Templates:
        return Templates(self.templates, world=World(account=self.facts.account, region=self.facts.region))

    def know(self, **facts: Any) -> None:
        self.facts = self.facts.model_copy(update=facts)

    # --- finding ------------------------------------------------------------------------------------------
    def all(self, kind: str, **having: str) -> list[Resource]:
        """Return resources of a type whose properties, resolved, contain these texts."""
        return [
            resource
            for resource in self.world().of(kind)
            if all(wanted in text_of(resource, name) for name, wanted in having.items())
        ]

    def one(self, kind: str, **having: str) -> Resource:
        """Return the first of them; there must be one."""
        return self.all(kind, **having)[0]

    def properties(self, kind: str, **having: str) -> Raw:
        """Return the raw properties of the first of them, to be changed."""
        return raw_properties(self.one(kind, **having))

    def add(self, beside: Resource, logical_id: str, kind: str, properties: Raw, **more: Any) -> None:
        """Add a resource to the template of another."""
        self._resources(beside.template)[logical_id] = {"Type": kind, "Properties": properties, **more}

    def _resources(self, template: Template) -> Raw:
        (found,) = (one for one in self.templates if one.path == template.path)
        return found.document["Resources"]

    # --- parts of a deployment ----------------------------------------------------------------------------

    def endpoint(self, service: str) -> Resource:
        """Return the endpoint of an AWS service."""
        return next(
            one
            for one in self.all("AWS::EC2::VPCEndpoint")
            if text(one.properties["ServiceName"]).endswith(f".{service}")
        )

    def container(self) -> Raw:
        """Return the container that the load balancer sends to, to be changed."""
        balanced = items(self.one("AWS::ECS::Service").properties["LoadBalancers"])[0]
        name = text(balanced["ContainerName"]) if isinstance(balanced, dict) else ""
        containers = self.properties("AWS::ECS::TaskDefinition")["ContainerDefinitions"]
        return next(one for one in containers if one["Name"] == name)

    def llm(self) -> Raw:
        """Return the container of the model whose environment names a batch size, to be changed."""
        model = self.properties("AWS::SageMaker::Model", PrimaryContainer="SM_ON_BATCH_SIZE")
        return model["PrimaryContainer"]

    def variant(self) -> Raw:
        """Return the variant on Inferentia, to be changed."""
        config = self.properties("AWS::SageMaker::EndpointConfig", ProductionVariants="ml.inf2")
        return config["ProductionVariants"][0]

    def statements(self) -> Iterator[Raw]:
        """Yield every statement of roles' policies, to be changed."""
        for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
            for policy in self.all(kind):
                yield from _as_list(raw_properties(policy)["PolicyDocument"]["Statement"])
        for role in self.all("AWS::IAM::Role"):
            for policy in raw_properties(role).get("Policies", []):
                yield from _as_list(policy["PolicyDocument"]["Statement"])

    def forget_action(self, action: str) -> None:
        """Remove an action from every role's policies, also where a wildcard contains it."""
        service, _, name = action.partition(":")
        for statement in self.statements():
            kept = [
                one
                for one in _as_list(statement.get("Action", []))
                if not (one.startswith(f"{service}:") and name.startswith(one.partition(":")[2].rstrip("*")))
            ]
            statement["Action"] = kept or ["iam:GetRole"]


def raw_properties(resource: Resource) -> Raw:
    """Return a resource's own properties, to be changed."""
    return resource.raw["Properties"]


def text_of(resource: Resource, name: str) -> str:
    """Return a property, resolved, as text."""
    return str(resource.properties.get(name, ""))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


LOAD_BALANCER = "AWS::ElasticLoadBalancingV2::LoadBalancer"
LISTENER = "AWS::ElasticLoadBalancingV2::Listener"
TARGET_GROUP = "AWS::ElasticLoadBalancingV2::TargetGroup"
DOMAIN = "AWS::OpenSearchService::Domain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A planted mistake: its number, the code of the expected finding, and the change that makes it."""

    number: int
    code: str
    name: str
    change: Callable[[Scene], None]

    def __str__(self) -> str:
        return f"{self.number}-{self.name}"


PLANTED: list[Planted] = []


def plant(number: int, code: str) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    def keep(change: Callable[[Scene], None]) -> Callable[[Scene], None]:
        name = change.__name__.replace("_", "-")
        PLANTED.append(Planted(number=number, code=code, name=name, change=change))
        return change

    return keep


@plant(4, "alb-target-attributes")
def alb_target_with_attributes(scene: Scene) -> None:
    attributes = [{"Key": "deregistration_delay.timeout_seconds", "Value": "120"}]
    scene.properties(TARGET_GROUP, TargetType="alb").update(TargetGroupAttributes=attributes)


@plant(4, "alb-target-protocol")
def alb_target_by_tls(scene: Scene) -> None:
    scene.properties(TARGET_GROUP, TargetType="alb").update(Protocol="TLS")


@plant(4, "alb-target-port")
def alb_target_on_another_port(scene: Scene) -> None:
    scene.properties(TARGET_GROUP, TargetType="alb").update(Port=8080)


@plant(5, "alb-listener-dependency")
def alb_target_before_its_listener(scene: Scene) -> None:
    scene.one(TARGET_GROUP, TargetType="alb").raw.pop("DependsOn")  # type: ignore[attr-defined]


@plant(6, "alb-idle-timeout")
def alb_by_its_default(scene: Scene) -> None:
    balancer = scene.properties(LOAD_BALANCER, LoadBalancerAttributes="idle_timeout.timeout_seconds")
    kept = [one for one in balancer["LoadBalancerAttributes"] if "idle" not in one["Key"]]
    balancer["LoadBalancerAttributes"] = kept


@plant(6, "nlb-idle-timeout")
def nlb_by_its_default(scene: Scene) -> None:
    del scene.properties(LISTENER, Protocol="TCP")["ListenerAttributes"]


@plant(8, "invented-zone")
def zone_that_nobody_has(scene: Scene) -> None:
    scene.properties("AWS::EC2::Subnet").update(AvailabilityZone="dummy1a")


@plant(8, "standby-zones")
def standby_in_two_zones(scene: Scene) -> None:
    scene.properties(DOMAIN)["ClusterConfig"]["ZoneAwarenessConfig"]["AvailabilityZoneCount"] = 2


@plant(8, "standby-nodes")
def standby_with_two_masters(scene: Scene) -> None:
    scene.properties(DOMAIN)["ClusterConfig"]["DedicatedMasterCount"] = 2


@plant(8, "standby-nodes")
def standby_with_four_nodes(scene: Scene) -> None:
    scene.properties(DOMAIN)["ClusterConfig"]["InstanceCount"] = 4


@plant(9, "endpoint-private-dns")
def vpc_without_names(scene: Scene) -> None:
    for vpc in scene.all("AWS::EC2::VPC"):
        raw_properties(vpc)["EnableDnsHostnames"] = False


CONFIG = "AWS::SageMaker::EndpointConfig"
MODEL = "AWS::SageMaker::Model"
ENDPOINT = "AWS::SageMaker::Endpoint"
SCALING = "AWS::ApplicationAutoScaling::ScalableTarget"


@plant(11, "neuron-ami")
def inferentia_without_its_machine_image(scene: Scene) -> None:
    del scene.variant()["InferenceAmiVersion"]


@plant(11, "neuron-ami")
def inferentia_with_a_machine_image_for_gpus(scene: Scene) -> None:
    scene.variant()["InferenceAmiVersion"] = "al2-ami-sagemaker-inference-gpu-2"


@plant(11, "neuron-start-limit")
def inferentia_with_ten_minutes_to_start(scene: Scene) -> None:
    scene.variant()["ContainerStartupHealthCheckTimeoutInSeconds"] = 600


@plant(12, "image-unpinned")
def image_latest(scene: Scene) -> None:
    address = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/chat:latest"
    scene.container()["Image"] = address


@plant(12, "image-unpinned")
def image_without_a_tag(scene: Scene) -> None:
    scene.llm()["Image"] = "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-vllm-inference-neuronx"


@plant(12, "image-unpinned")
def image_by_a_tag_that_moves(scene: Scene) -> None:
    scene.llm()["Image"] = (
        "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-vllm-inference-neuronx:stable"
    )


@plant(12, "image-account")
def image_of_another_account(scene: Scene) -> None:
    region = scene.facts.region
    scene.llm()["Image"] = (
        f"444455556666.dkr.ecr.{region}.amazonaws.com/huggingface-vllm-inference-neuronx"
        ":0.11.0-optimum0.4.5-neuronx-py310-sdk2.26.1-ubuntu22.04"
    )


@plant(13, "hub-id")
def model_of_a_hub(scene: Scene) -> None:
    scene.llm()["Environment"]["SM_ON_MODEL"] = "mistralai/Mistral-7B-Instruct-v0.3"


@plant(13, "hub-id")
def model_of_a_hub_by_jumpstart(scene: Scene) -> None:
    hub = {"HubContentArn": "arn:aws:sagemaker:us-east-1:aws:hub-content/SageMakerPublicHub/Model/x/1.0.0"}
    scene.llm()["ModelDataSource"]["S3DataSource"]["HubAccessConfig"] = hub


@plant(13, "prefix-without-slash")
def prefix_without_a_slash(scene: Scene) -> None:
    source = scene.llm()["ModelDataSource"]["S3DataSource"]
    source["S3Uri"] = {"Fn::Join": ["", [source["S3Uri"], "weights"]]}


@plant(14, "artifact-parameters")
def another_batch_size(scene: Scene) -> None:
    scene.llm()["Environment"]["SM_ON_BATCH_SIZE"] = "16"


@plant(14, "artifact-parameters")
def no_tensor_parallel(scene: Scene) -> None:
    del scene.llm()["Environment"]["SM_ON_TENSOR_PARALLEL_SIZE"]


@plant(14, "too-many-cores")
def more_cores_than_the_instance_has(scene: Scene) -> None:
    scene.llm()["Environment"]["SM_ON_TENSOR_PARALLEL_SIZE"] = "8"
    artifacts = tuple(one.model_copy(update={"tensor_parallel": 8}) for one in scene.facts.artifacts)
    scene.know(artifacts=artifacts)


@plant(15, "hard-coded-name")
def model_with_a_name(scene: Scene) -> None:
    scene.properties(MODEL, PrimaryContainer="SM_ON_BATCH_SIZE")["ModelName"] = "llm"


@plant(15, "hard-coded-reference")
def variant_by_a_fixed_name(scene: Scene) -> None:
    scene.variant()["ModelName"] = "llm-2024"


@plant(16, "retain-variants")
def variants_not_retained(scene: Scene) -> None:
    del scene.properties(ENDPOINT)["RetainAllVariantProperties"]


@plant(16, "scaling-before-endpoint")
def scaling_before_the_endpoint(scene: Scene) -> None:
    endpoint = scene.one(ENDPOINT)
    raw_properties(endpoint)["EndpointName"] = "the-endpoint"
    for target in scene.all(SCALING, ServiceNamespace="sagemaker"):
        raw_properties(target)["ResourceId"] = "endpoint/the-endpoint/variant/main"
        target.raw.pop("DependsOn", None)  # type: ignore[attr-defined]


@plant(17, "capture-without-key")
def capture_without_a_key(scene: Scene) -> None:
    del scene.properties(CONFIG, DataCaptureConfig="DestinationS3Uri")["DataCaptureConfig"]["KmsKeyId"]


@plant(23, "local-disk-key")
def a_key_for_a_local_disk(scene: Scene) -> None:
    scene.variant()["InstanceType"] = "ml.g6e.2xlarge"


@plant(23, "instance-unknown")
def a_key_where_a_pool_may_have_a_local_disk(scene: Scene) -> None:
    scene.variant()["InstancePools"] = [{"InstanceType": "ml.m6id.xlarge", "Priority": 2}]


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


@plant(19, "log-bucket-key")
def log_bucket_with_a_key(scene: Scene) -> None:
    rule = {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/logs"}}
    raw_properties(log_bucket(scene))["BucketEncryption"] = {"ServerSideEncryptionConfiguration": [rule]}


@plant(19, "log-bucket-object-lock")
def log_bucket_with_object_lock(scene: Scene) -> None:
    raw_properties(log_bucket(scene))["ObjectLockEnabled"] = True


@plant(20, "exec-without-rights")
def exec_without_rights(scene: Scene) -> None:
    scene.properties(SERVICE)["EnableExecuteCommand"] = True
    scene.forget_action("ssmmessages:OpenDataChannel")


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


@plant(22, "plaintext-hop")
def event_sent_by_http(scene: Scene) -> None:
    destination = {"InvocationEndpoint": "http://hook.internal/x", "HttpMethod": "POST", "ConnectionArn": "x"}
    scene.add(scene.one("AWS::ECS::Service"), "Hook", "AWS::Events::ApiDestination", destination)


def bucket_policy(scene: Scene, bucket: Resource) -> Raw:
    """Return the policy of a bucket, to be changed; a new one where it has none."""
    for policy in scene.all("AWS::S3::BucketPolicy"):
        named = policy.properties["Bucket"]
        if isinstance(named, Target) and named.resource.logical_id == bucket.logical_id:
            return raw_properties(policy)["PolicyDocument"]
    document: Raw = {"Version": "2012-10-17", "Statement": []}
    made = {"Bucket": {"Ref": bucket.logical_id}, "PolicyDocument": document}
    scene.add(bucket, f"PolicyOf{bucket.logical_id}", "AWS::S3::BucketPolicy", made)
    return document


def log_bucket(scene: Scene) -> Resource:
    balancer = scene.one(LOAD_BALANCER, LoadBalancerAttributes="access_logs.s3.bucket")
    return next(one for one in scene.all(BUCKET) if f"{one!r}" in repr(dict(balancer.properties)))


@plant(6, "alb-idle-timeout")
def alb_cuts_before_the_answers_time(scene: Scene) -> None:
    balancer = scene.properties(LOAD_BALANCER, LoadBalancerAttributes="idle_timeout.timeout_seconds")
    (idle,) = (one for one in balancer["LoadBalancerAttributes"] if "idle" in one["Key"])
    idle["Value"] = "61"


@plant(6, "nlb-idle-timeout")
def nlb_cuts_before_the_answers_time(scene: Scene) -> None:
    attributes = [{"Key": "tcp.idle_timeout.seconds", "Value": "60"}]
    scene.properties(LISTENER, Protocol="TCP")["ListenerAttributes"] = attributes


@plant(8, "invented-zone")
def zones_of_another_region(scene: Scene) -> None:
    for subnet in scene.all("AWS::EC2::Subnet"):
        raw_properties(subnet)["AvailabilityZone"] = {"Fn::Select": [0, {"Fn::GetAZs": "ap-southeast-2"}]}


def _when_small(scene: Scene, beside: Resource, then: Any, otherwise: Any) -> Raw:
    """Return a value that depends on a parameter whose default is right, and add the parameter."""
    (template,) = (one for one in scene.templates if one.path == beside.template.path)
    parameters: Raw = template.document.setdefault("Parameters", {})  # type: ignore[attr-defined]
    parameters["PlantedSize"] = {"Type": "String", "Default": "large", "AllowedValues": ["large", "small"]}
    conditions: Raw = template.document.setdefault("Conditions", {})  # type: ignore[attr-defined]
    conditions["PlantedIsSmall"] = {"Fn::Equals": [{"Ref": "PlantedSize"}, "small"]}
    return {"Fn::If": ["PlantedIsSmall", then, otherwise]}


@plant(8, "standby-nodes")
def masters_off_where_small(scene: Scene) -> None:
    domain = scene.one(DOMAIN)
    raw_properties(domain)["ClusterConfig"]["DedicatedMasterEnabled"] = _when_small(
        scene, domain, False, True
    )


@plant(8, "standby-zones")
def zones_not_known_to_the_domain(scene: Scene) -> None:
    scene.properties(DOMAIN)["ClusterConfig"]["ZoneAwarenessEnabled"] = False


@plant(13, "hub-id")
def tokenizer_of_a_hub(scene: Scene) -> None:
    scene.llm()["Environment"]["SM_VLLM_TOKENIZER"] = "mistralai/Mistral-7B-v0.3"


@plant(13, "hub-id")
def draft_model_of_a_hub_in_json(scene: Scene) -> None:
    scene.llm()["Environment"]["SM_VLLM_SPECULATIVE_CONFIG"] = (
        '{"model": "acme/draft", "num_speculative_tokens": 4}'
    )


@plant(14, "artifact-parameters")
def artifact_that_no_manifest_names(scene: Scene) -> None:
    known = [one.model_copy(update={"uri": one.uri or f"/{one.name}/"}) for one in scene.facts.artifacts]
    scene.know(artifacts=tuple(known))
    source = scene.llm()["ModelDataSource"]["S3DataSource"]
    source["S3Uri"] = "s3://support-models/llm/somebody-elses/4f1c/"


@plant(16, "retain-variants")
def counts_left_out_of_what_is_retained(scene: Scene) -> None:
    excluded = [{"VariantPropertyType": "DesiredInstanceCount"}]
    scene.properties(ENDPOINT)["ExcludeRetainedVariantProperties"] = excluded


@plant(19, "log-bucket-delivery")
def log_bucket_without_the_delivery(scene: Scene) -> None:
    document = bucket_policy(scene, log_bucket(scene))
    document["Statement"] = [one for one in document["Statement"] if "elasticloadbalancing" not in str(one)]


@plant(18, "open-access-policy")
def everybody_by_tls_on_the_domain(scene: Scene) -> None:
    condition = {"Bool": {"aws:SecureTransport": "true"}}
    everybody = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "es:*",
        "Resource": "*",
        "Condition": condition,
    }
    scene.properties(DOMAIN)["AccessPolicies"] = {"Version": "2012-10-17", "Statement": [everybody]}


@plant(22, "plaintext-hop")
def health_asked_by_http(scene: Scene) -> None:
    scene.properties(TARGET_GROUP, TargetType="ip")["HealthCheckProtocol"] = "HTTP"


@plant(22, "plaintext-hop")
def health_asked_by_its_default(scene: Scene) -> None:
    del scene.properties(TARGET_GROUP, TargetType="ip")["HealthCheckProtocol"]


@plant(22, "plaintext-hop")
def redis_without_tls(scene: Scene) -> None:
    scene.container()["Environment"].append({"Name": "CACHE", "Value": "redis://cache.internal:6379/0"})


@plant(22, "plaintext-hop")
def web_socket_without_tls(scene: Scene) -> None:
    value = '{"feed": {"address": "ws://feed.internal/events"}}'
    scene.container()["Environment"].append({"Name": "FEEDS", "Value": value})


@plant(22, "plaintext-hop")
def database_whose_tls_is_a_wish(scene: Scene) -> None:
    value = "postgresql://db.internal/chat?sslmode=prefer"
    scene.container()["Environment"].append({"Name": "DATABASE_URL", "Value": value})


@plant(22, "plaintext-hop")
def tls_off(scene: Scene) -> None:
    environment = scene.container()["Environment"]
    environment[:] = [one for one in environment if not one["Name"].endswith("_TLS")]
    environment.append({"Name": "SERVICE_TLS", "Value": "off"})


@plant(20, "read-only-without-tmp")
def read_only_root_without_tmp(scene: Scene) -> None:
    scene.container().pop("MountPoints")


@plant(20, "no-pull-rights")
def no_execution_role(scene: Scene) -> None:
    scene.properties(TASK).pop("ExecutionRoleArn")


@plant(22, "deadline")
def answers_of_three_minutes(scene: Scene) -> None:
    scene.know(answer_deadline_s=180.0)
