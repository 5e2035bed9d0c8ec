"""Mistakes in policies, regions, schemes and conditions, which a text search would not find."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from template_checks.policies import Policies
from template_checks.templates import Resource, Target, at, targets
from tests.stacks.mistakes.planted import DOMAIN, LISTENER, LOAD_BALANCER, TARGET_GROUP, plant
from tests.stacks.mistakes.planted_in_models import CONFIG, ENDPOINT
from tests.stacks.mistakes.scene import Raw, Scene, raw_properties

BUCKET = "AWS::S3::Bucket"
TASK = "AWS::ECS::TaskDefinition"
EVERYBODY: Raw = {"Effect": "Deny", "Principal": "*", "Resource": "*"}


def role_of(scene: Scene, kind: str, name: str, **having: str) -> Resource:
    """Return the role that a resource names, by reference, ARN or name."""
    world, wanted = scene.world(), scene.one(kind, **having)
    (resource,) = (one for one in world.of(kind) if one.raw is wanted.raw)
    role = Policies(world).role(resource.properties.get(name))
    if role is None:
        raise LookupError(name)
    return role


def statements_of(scene: Scene, role: Resource) -> list[Raw]:
    """Return a role's raw statements, to be changed: of its own policies and of those attached to it."""
    documents = [policy["PolicyDocument"] for policy in raw_properties(role).get("Policies", [])]
    for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        for policy in scene.all(kind):
            held = [target.resource.logical_id for target in targets(policy.properties.get("Roles"))]
            attached = [target.resource for target in targets(role.properties.get("ManagedPolicyArns"))]
            if role.logical_id in held or policy.logical_id in [one.logical_id for one in attached]:
                documents.append(raw_properties(policy)["PolicyDocument"])
    return [statement for document in documents for statement in _as_list(document["Statement"])]


def deny(scene: Scene, role: Resource, *actions: str, resource: Any = "*") -> None:
    """Add a Deny to a role."""
    entry = {"Effect": "Deny", "Action": list(actions), "Resource": resource}
    policy = {"PolicyName": "kept-out", "PolicyDocument": {"Version": "2012-10-17", "Statement": [entry]}}
    raw_properties(role).setdefault("Policies", []).append(policy)


def execution_role(scene: Scene) -> Resource:
    return role_of(scene, TASK, "ExecutionRoleArn")


def model_role(scene: Scene) -> Resource:
    return role_of(scene, "AWS::SageMaker::Model", "ExecutionRoleArn", PrimaryContainer="SM_ON_BATCH_SIZE")


def key_of_capture(scene: Scene) -> Raw:
    capture = scene.one(CONFIG, DataCaptureConfig="DestinationS3Uri").properties["DataCaptureConfig"]
    (target,) = targets(at(capture, "KmsKeyId"))
    return raw_properties(target.resource)["KeyPolicy"]


def bucket_of_capture(scene: Scene) -> Resource:
    capture = scene.one(CONFIG, DataCaptureConfig="DestinationS3Uri").properties["DataCaptureConfig"]
    found = [target.resource for target in targets(at(capture, "DestinationS3Uri"))]
    if found:
        return found[0]
    return scene.one(BUCKET, BucketName="captured")


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


@plant(9, "missing-endpoint")
def endpoint_of_another_region(scene: Scene) -> None:
    raw_properties(scene.endpoint("logs"))["ServiceName"] = "com.amazonaws.ap-southeast-2.logs"


# --- 13, 14 and 16: models --------------------------------------------------------------------------------
@plant(13, "hub-id")
def tokenizer_of_a_hub(scene: Scene) -> None:
    scene.llm()["Environment"]["SM_VLLM_TOKENIZER"] = "mistralai/Mistral-7B-v0.3"


@plant(13, "hub-id")
def draft_model_of_a_hub(scene: Scene) -> None:
    scene.llm()["Environment"]["SM_VLLM_SPECULATIVE_MODEL"] = "acme/draft"


@plant(13, "hub-id")
def draft_model_of_a_hub_in_json(scene: Scene) -> None:
    scene.llm()["Environment"]["SM_VLLM_SPECULATIVE_CONFIG"] = (
        '{"model": "acme/draft", "num_speculative_tokens": 4}'
    )


@plant(13, "hub-id")
def tokenizer_of_a_hub_in_a_task(scene: Scene) -> None:
    scene.container()["Environment"].append({"Name": "TOKENIZER_MODEL_ID", "Value": "acme/tokenizer"})


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
@plant(17, "log-key-principal")
def log_key_for_the_groups_of_another_tenant(scene: Scene) -> None:
    for key in scene.all("AWS::KMS::Key"):
        for statement in raw_properties(key)["KeyPolicy"]["Statement"]:
            if "logs." in str(statement.get("Principal")):
                place = "arn:aws:logs:*:*:log-group:/somebody-else/*"
                statement["Condition"] = {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": place}}


@plant(17, "log-key-principal")
def log_key_that_denies_the_service(scene: Scene) -> None:
    for key in scene.all("AWS::KMS::Key"):
        policy = raw_properties(key)["KeyPolicy"]
        if "logs." in str(policy):
            policy["Statement"].append(EVERYBODY | {"Action": "kms:GenerateDataKey*"})


@plant(17, "capture-key-rights")
def capture_key_without_data_keys(scene: Scene) -> None:
    for statement in key_of_capture(scene)["Statement"]:
        actions = [
            one for one in _as_list(statement["Action"]) if one not in ("kms:*", "kms:GenerateDataKey*")
        ]
        statement["Action"] = actions or ["kms:DescribeKey"]


@plant(17, "capture-key-rights")
def capture_key_for_another_service(scene: Scene) -> None:
    for statement in key_of_capture(scene)["Statement"]:
        if statement["Effect"] == "Allow":
            statement["Condition"] = {
                "StringEquals": {"kms:ViaService": "dynamodb.ap-southeast-2.amazonaws.com"}
            }


@plant(17, "capture-put-rights")
def capture_bucket_that_asks_for_another_tag(scene: Scene) -> None:
    bucket = bucket_of_capture(scene)
    bucket_policy(scene, bucket)["Statement"].append(
        EVERYBODY
        | {
            "Action": "s3:PutObject",
            "Resource": {"Fn::Sub": f"${{{bucket.logical_id}.Arn}}/*"},
            "Condition": {"StringNotEquals": {"aws:PrincipalTag/writes": "capture"}},
        }
    )


@plant(17, "capture-put-rights")
def capture_by_a_role_that_is_kept_out(scene: Scene) -> None:
    deny(scene, model_role(scene), "s3:Put*")


# --- 19 and 20: writers and pullers -----------------------------------------------------------------------
@plant(19, "log-bucket-delivery")
def log_bucket_without_the_delivery(scene: Scene) -> None:
    document = bucket_policy(scene, log_bucket(scene))
    document["Statement"] = [one for one in document["Statement"] if "elasticloadbalancing" not in str(one)]


@plant(19, "log-bucket-delivery")
def log_bucket_that_denies_services(scene: Scene) -> None:
    bucket = log_bucket(scene)
    bucket_policy(scene, bucket)["Statement"].append(
        EVERYBODY | {"Action": "s3:PutObject", "Resource": {"Fn::Sub": f"${{{bucket.logical_id}.Arn}}/*"}}
    )


@plant(20, "no-pull-rights")
def pulling_is_denied(scene: Scene) -> None:
    deny(scene, execution_role(scene), "ecr:*")


@plant(20, "no-pull-rights")
def pulling_of_another_repository(scene: Scene) -> None:
    _only_on(scene, "ecr:", "arn:aws:ecr:eu-west-1:111122223333:repository/somebody/else")


@plant(20, "no-log-rights")
def no_stream_of_logs(scene: Scene) -> None:
    _only_on(scene, "logs:", "arn:aws:logs:*:*:log-group:/somebody-else:*")


def _only_on(scene: Scene, prefix: str, resource: str) -> None:
    """Take what a managed policy of AWS gives the execution role, and give it on another resource."""
    role = execution_role(scene)
    arns: list[Any] = raw_properties(role).get("ManagedPolicyArns", [])
    arns[:] = [arn for arn in arns if "AmazonECSTaskExecutionRolePolicy" not in str(arn)]
    for statement in statements_of(scene, role):
        if any(action.startswith(prefix) for action in _as_list(statement["Action"])):
            statement["Resource"] = resource
    given: list[Raw] = [
        {
            "Effect": "Allow",
            "Action": ["ecr:GetAuthorizationToken", "ecr:Batch*", "ecr:Get*"],
            "Resource": "*",
        },
        {"Effect": "Allow", "Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": "*"},
    ]
    for entry in given:
        if entry["Action"][0].startswith(prefix):
            entry["Resource"] = resource
    document = {"Version": "2012-10-17", "Statement": given}
    raw_properties(role).setdefault("Policies", []).append({"PolicyName": "pull", "PolicyDocument": document})


@plant(20, "no-secret-rights")
def secret_of_somebody_else(scene: Scene) -> None:
    secret = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:somebody-elses-AbCdEf"
    scene.container().setdefault("Secrets", []).append({"Name": "KEY", "ValueFrom": secret})
    if not any("secretsmanager" in str(one.properties["ServiceName"]) for one in _endpoints(scene)):
        scene.know(existing_endpoints=(*scene.facts.existing_endpoints, "secretsmanager"))


def _endpoints(scene: Scene) -> Iterator[Resource]:
    yield from scene.all("AWS::EC2::VPCEndpoint")


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
