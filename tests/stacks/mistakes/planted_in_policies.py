"""Mistakes in policies, regions, schemes and conditions, which a text search would not find."""

from __future__ import annotations

from typing import Any

from template_checks.templates import Resource, Target
from tests.stacks.mistakes.planted import DOMAIN, LISTENER, LOAD_BALANCER, TARGET_GROUP, plant
from tests.stacks.mistakes.planted_in_models import ENDPOINT
from tests.stacks.mistakes.scene import Raw, Scene, raw_properties

BUCKET = "AWS::S3::Bucket"
TASK = "AWS::ECS::TaskDefinition"


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


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# --- 6: time-outs that are set, and too short -------------------------------------------------------------
@plant(6, "alb-idle-timeout")
def alb_cuts_before_the_answers_time(scene: Scene) -> None:
    balancer = scene.properties(LOAD_BALANCER, LoadBalancerAttributes="idle_timeout.timeout_seconds")
    (idle,) = (one for one in balancer["LoadBalancerAttributes"] if "idle" in one["Key"])
    idle["Value"] = "61"


@plant(6, "nlb-idle-timeout")
def nlb_cuts_before_the_answers_time(scene: Scene) -> None:
    attributes = [{"Key": "tcp.idle_timeout.seconds", "Value": "60"}]
    scene.properties(LISTENER, Protocol="TCP")["ListenerAttributes"] = attributes


# --- 8 and 9: regions, and a branch that is wrong ---------------------------------------------------------
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


# --- 13, 14 and 16: models --------------------------------------------------------------------------------
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


# --- 17: keys and buckets that say something else ---------------------------------------------------------


# --- 19 and 20: writers and pullers -----------------------------------------------------------------------
@plant(19, "log-bucket-delivery")
def log_bucket_without_the_delivery(scene: Scene) -> None:
    document = bucket_policy(scene, log_bucket(scene))
    document["Statement"] = [one for one in document["Statement"] if "elasticloadbalancing" not in str(one)]


# --- 18 and 22: who is let in, and by what scheme ---------------------------------------------------------
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
