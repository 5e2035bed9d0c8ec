"""Operators for mistakes 18 to 22: the search domain, buckets of logs, tasks, functions, hops."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from template_checks.templates import Resource, Target, at, flag, items, targets, text
from tests.stacks.mistakes.planted import DOMAIN, LISTENER, LOAD_BALANCER, TARGET_GROUP
from tests.stacks.mistakes.planted_in_policies import (
    bucket_policy,
    deny,
    execution_role,
    log_bucket,
    statements_of,
)
from tests.stacks.mistakes.scene import Raw, Scene
from tests.stacks.mutations.changes import DELETE, Mutation, Place, edit, put
from tests.stacks.mutations.in_models import below

FUNCTION = "AWS::Lambda::Function"
TASK = "AWS::ECS::TaskDefinition"
OTHER_REGION = "ap-southeast-2"


def services(scene: Scene) -> Iterator[Mutation]:
    yield from _domains(scene)
    yield from _log_buckets(scene)
    yield from _tasks(scene)
    yield from _functions(scene)
    yield from _hops(scene)
    yield from _addresses(scene)
    yield from _deadlines(scene)


# --- 18 ---------------------------------------------------------------------------------------------------
def _domains(scene: Scene) -> Iterator[Mutation]:
    for domain in scene.all(DOMAIN):
        for service in ("opensearchservice.amazonaws.com", "es.amazonaws.com"):
            role = {"AWSServiceName": service}
            yield Mutation(
                number=18,
                operator="service-linked role in the domain's stack",
                where=service,
                change=lambda scene, role=role: scene.add(
                    scene.one(DOMAIN), "LinkedRole", "AWS::IAM::ServiceLinkedRole", role
                ),
            )
        if flag(at(domain.properties.get("ClusterConfig"), "MultiAZWithStandbyEnabled")):
            for name in ("InstanceType", "DedicatedMasterType"):
                for kind in ("t3.medium.search", "t3.small.search", "t2.medium.search"):
                    yield from put(18, "burstable instance", Place.of(domain, "ClusterConfig", name), kind)
        everybody: Raw = {"Effect": "Allow", "Action": "es:*", "Resource": "*"}
        for principal in ("*", {"AWS": "*"}, {"AWS": ["*", "arn:aws:iam::1:role/x"]}):
            for condition in (
                {},
                {"Condition": {"Bool": {"aws:SecureTransport": "true"}}},
                {"Condition": {"IpAddress": {"aws:SourceIp": ["0.0.0.0/0"]}}},
                {"Condition": {"StringNotEquals": {"aws:PrincipalTag/x": "y"}}},
                {"Condition": {"StringLike": {"aws:PrincipalArn": "*"}}},
            ):
                policy = {"Statement": [everybody | {"Principal": principal} | condition]}
                yield from put(18, "widen principal", Place.of(domain, "AccessPolicies"), policy)
        groups = [
            target.resource for target in targets(at(domain.properties.get("VPCOptions"), "SecurityGroupIds"))
        ]
        for group in groups:
            yield Mutation(
                number=18,
                operator="drop every rule",
                where=group.logical_id,
                change=lambda scene, group=group: scene.close(_same(scene, group), "Ingress"),
            )


def _same(scene: Scene, resource: Resource) -> Resource:
    return next(
        one
        for one in scene.all(resource.type)
        if one.logical_id == resource.logical_id and one.template.path == resource.template.path
    )


# --- 19 ---------------------------------------------------------------------------------------------------
def _deliveries(scene: Scene) -> Iterator[tuple[Resource, tuple[str, ...]]]:
    """Yield each bucket of logs with the services that write there."""
    if any("access_logs.s3.bucket" in str(one.raw) for one in scene.all(LOAD_BALANCER)):
        yield (
            log_bucket(scene),
            ("logdelivery.elasticloadbalancing.amazonaws.com", "logging.s3.amazonaws.com"),
        )
    for trail in scene.all("AWS::CloudTrail::Trail"):
        for target in targets(trail.properties["S3BucketName"]):
            yield target.resource, ("cloudtrail.amazonaws.com",)


def _log_buckets(scene: Scene) -> Iterator[Mutation]:
    for bucket, writers in _deliveries(scene):
        where = f"{bucket.template.name}.{bucket.logical_id}"
        document = bucket_policy(scene, bucket)
        for index, statement in enumerate(document["Statement"]):
            principal = statement.get("Principal")
            services_ = items(principal.get("Service")) if isinstance(principal, dict) else []
            for writer in writers:
                if statement["Effect"] != "Allow" or writer not in services_:
                    continue
                place = _policy_place(scene, bucket, index)
                yield from put(19, "drop statement", place, DELETE)
                yield from put(19, "deny in place of allow", below(place, "Effect"), "Deny")
                yield from put(19, "other action", below(place, "Action"), "s3:GetObject")
                yield from put(
                    19, "other resource", below(place, "Resource"), "arn:aws:s3:::somebody-elses/*"
                )
                for other in ("sns.amazonaws.com", "logs.amazonaws.com"):
                    yield from put(19, "other principal", below(place, "Principal"), {"Service": other})
                for condition in (
                    {"StringEquals": {"aws:SourceAccount": "999999999999"}},
                    {"ArnLike": {"aws:SourceArn": "arn:aws:s3:::somebody-elses"}},
                    {"StringEquals": {"aws:PrincipalTag/tenant": "any"}},
                ):
                    yield from put(19, "other Condition", below(place, "Condition"), condition)
        for action in ("s3:*", "s3:PutObject", "s3:Put*"):
            entry = {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": "*"}
            yield Mutation(
                number=19, operator="insert Deny", where=f"{where} {action}", change=_appending(bucket, entry)
            )
        for writer in writers:
            entry = {"Effect": "Deny", "Principal": {"Service": writer}, "Action": "s3:Put*", "Resource": "*"}
            yield Mutation(
                number=19, operator="insert Deny", where=f"{where} {writer}", change=_appending(bucket, entry)
            )
        if "cloudtrail.amazonaws.com" not in writers:
            for algorithm in ("aws:kms", "aws:kms:dsse"):
                rule = {"ServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm}}
                place = Place.of(bucket, "BucketEncryption")
                yield from put(19, "encrypt by KMS", place, {"ServerSideEncryptionConfiguration": [rule]})
            yield from put(19, "lock", Place.of(bucket, "ObjectLockEnabled"), True)


def _appending(bucket: Resource, entry: Raw) -> Any:
    return lambda scene: bucket_policy(scene, _same(scene, bucket))["Statement"].append(copy.deepcopy(entry))


def _policy_place(scene: Scene, bucket: Resource, index: int) -> Place:
    for policy in scene.all("AWS::S3::BucketPolicy"):
        named = policy.properties["Bucket"]
        if isinstance(named, Target) and named.resource.logical_id == bucket.logical_id:
            return Place.of(policy, "PolicyDocument", "Statement", index)
    raise LookupError(bucket.logical_id)


# --- 20 and 21 --------------------------------------------------------------------------------------------
_PULLING = (
    "ecr:*",
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
    "ecr:GetAuthorizationToken",
    "ecr:Get*",
    "*",
)
_LOGGING = ("logs:*", "logs:CreateLogStream", "logs:PutLogEvents", "logs:Put*")


def _tasks(scene: Scene) -> Iterator[Mutation]:
    for task in scene.all(TASK):
        yield from put(20, "delete property", Place.of(task, "ExecutionRoleArn"), DELETE)
        platform = text(at(task.properties.get("RuntimePlatform"), "CpuArchitecture")) or "X86_64"
        other = "ARM64" if platform == "X86_64" else "X86_64"
        value = {"CpuArchitecture": other, "OperatingSystemFamily": "LINUX"}
        yield from put(20, "other architecture", Place.of(task, "RuntimePlatform"), value)
        for index, container in enumerate(task.raw["Properties"]["ContainerDefinitions"]):
            place = Place.of(task, "ContainerDefinitions", index)
            if container.get("ReadonlyRootFilesystem") and container.get("Essential") is not False:
                yield from _without_tmp(place, container)
    for where in ("execution role",):
        for action in (*_PULLING, *_LOGGING):
            yield Mutation(
                number=20, operator="insert Deny", where=f"{where} {action}", change=_denying(action)
            )
        for prefix, resource in (
            ("ecr:Batch", "arn:aws:ecr:us-east-1:111122223333:repository/somebody/else"),
            ("logs:", f"arn:aws:logs:{OTHER_REGION}:111122223333:log-group:/x:*"),
        ):
            yield Mutation(
                number=20,
                operator="other resource",
                where=f"{where} {prefix}",
                change=_moving(prefix, resource),
            )
            condition = {"StringEquals": {"aws:PrincipalTag/pulls": "yes"}}
            yield Mutation(
                number=20,
                operator="add Condition",
                where=f"{where} {prefix}",
                change=_conditioning(prefix, condition),
            )
        for prefix in ("ecr:Batch", "logs:Create", "logs:Put", "ecr:GetDownload", "ecr:GetAuth"):
            yield Mutation(
                number=20, operator="drop action", where=f"{where} {prefix}", change=_dropping(prefix)
            )
    for service in scene.all("AWS::ECS::Service"):
        if flag(service.properties.get("EnableExecuteCommand")):
            yield Mutation(
                number=20,
                operator="drop action",
                where="ssmmessages",
                change=lambda scene: scene.forget_action("ssmmessages:OpenDataChannel"),
            )
            yield Mutation(number=20, operator="remove endpoint", where="ssmmessages", change=_without_exec)
        else:
            yield from put(20, "flip boolean", Place.of(service, "EnableExecuteCommand"), True)


def _without_exec(scene: Scene) -> None:
    scene.remove(scene.endpoint("ssmmessages"))


def _without_tmp(place: Place, container: Raw) -> Iterator[Mutation]:
    for index, mount in enumerate(container.get("MountPoints", [])):
        if mount["ContainerPath"] == "/tmp":
            at_ = below(place, "MountPoints", index)
            yield from put(20, "delete mount", at_, DELETE)
            yield from put(20, "other path", below(at_, "ContainerPath"), "/var/tmp")
            yield from put(20, "flip boolean", below(at_, "ReadOnly"), True)
    if "Tmpfs" in container.get("LinuxParameters", {}):
        yield from put(20, "delete mount", below(place, "LinuxParameters", "Tmpfs"), DELETE)


def _denying(action: str) -> Any:
    return lambda scene: deny(scene, execution_role(scene), action)


def _own_statements(scene: Scene) -> list[Raw]:
    """Return the execution role's statements, with what AWS's policy for it allows written out."""
    role = execution_role(scene)
    properties = role.raw["Properties"]
    arns: list[Any] = properties.get("ManagedPolicyArns", [])
    given = [arn for arn in arns if "AmazonECSTaskExecutionRolePolicy" in str(arn)]
    if given:
        arns[:] = [arn for arn in arns if arn not in given]
        pull = ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        entries: list[Raw] = [
            {"Effect": "Allow", "Action": pull, "Resource": "*"},
            {"Effect": "Allow", "Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": "*"},
        ]
        policy = {"PolicyName": "start", "PolicyDocument": {"Version": "2012-10-17", "Statement": entries}}
        properties.setdefault("Policies", []).append(policy)
    return statements_of(scene, role)


def _actions(statement: Raw) -> list[str]:
    return statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]


def _moving(prefix: str, resource: str) -> Any:
    def change(scene: Scene) -> None:
        for statement in _own_statements(scene):
            if any(action.startswith(prefix) for action in _actions(statement)):
                statement["Resource"] = resource

    return change


def _conditioning(prefix: str, condition: Raw) -> Any:
    def change(scene: Scene) -> None:
        for statement in _own_statements(scene):
            if any(action.startswith(prefix) for action in _actions(statement)):
                statement["Condition"] = copy.deepcopy(condition)

    return change


def _dropping(prefix: str) -> Any:
    def change(scene: Scene) -> None:
        for statement in _own_statements(scene):
            kept = [action for action in _actions(statement) if not action.startswith(prefix)]
            statement["Action"] = kept or ["sts:GetCallerIdentity"]

    return change


def _functions(scene: Scene) -> Iterator[Mutation]:
    for function in scene.all(FUNCTION):
        if "VpcConfig" in function.raw["Properties"]:
            yield from put(21, "delete property", Place.of(function, "VpcConfig"), DELETE)
            yield from put(21, "empty list", Place.of(function, "VpcConfig", "SubnetIds"), [])


# --- 22 ---------------------------------------------------------------------------------------------------
def _hops(scene: Scene) -> Iterator[Mutation]:
    for listener in scene.all(LISTENER, Protocol="HTTPS"):
        yield from put(22, "other protocol", Place.of(listener, "Protocol"), "HTTP")
    for listener in scene.all(LISTENER, Protocol="TCP"):
        yield from put(22, "other protocol", Place.of(listener, "Protocol"), "TLS")
        yield from put(22, "other port", Place.of(listener, "Port"), 80)
    for group in scene.all(TARGET_GROUP):
        if text(group.properties.get("Protocol")) == "HTTPS":
            yield from put(22, "other protocol", Place.of(group, "Protocol"), "HTTP")
            yield from put(22, "health by HTTP", Place.of(group, "HealthCheckProtocol"), "HTTP")
            yield from put(22, "health by HTTP", Place.of(group, "HealthCheckProtocol"), DELETE)
        elif text(group.properties.get("TargetType")) == "alb":
            yield from put(22, "health by HTTP", Place.of(group, "HealthCheckProtocol"), "HTTP")
            yield from put(22, "health by HTTP", Place.of(group, "HealthCheckProtocol"), DELETE)
    for domain in scene.all(DOMAIN):
        for section, name in (
            ("NodeToNodeEncryptionOptions", "Enabled"),
            ("DomainEndpointOptions", "EnforceHTTPS"),
        ):
            for value in (False, DELETE):
                yield from put(22, "flip boolean", Place.of(domain, section, name), value)
            yield from put(22, "delete property", Place.of(domain, section), DELETE)


SCHEMES = ("http", "ws", "redis", "amqp", "ldap", "mqtt", "ftp", "memcached", "nats", "tcp", "smtp", "grpc")
ADDRESSES = (
    *(f"{scheme}://wiki.internal:1234/x" for scheme in SCHEMES),
    "HTTP://WIKI.INTERNAL/",
    "jdbc:mysql://db.internal/x?useSSL=false",
    "postgres://u@db.internal/x?sslmode=disable",
    "mongodb://db.internal/?tls=false",
    "https://a.internal,http://b.internal",
    '{"upstream": [{"url": "http://wiki.internal"}]}',
    "http://[fd00::1]:8080/",
)
SWITCHES = (
    ("SERVICE_TLS", "off"),
    ("REDIS_SSL", "false"),
    ("SEARCH_USE_TLS", "0"),
    ("OPENSEARCH_SSL_ENABLED", "no"),
    ("PGSSLMODE", "disable"),
    ("PGSSLMODE", "prefer"),
    ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"),
    ("NODE_TLS_REJECT_UNAUTHORIZED", "0"),
    ("DISABLE_TLS", "true"),
    ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
)


def _addresses(scene: Scene) -> Iterator[Mutation]:
    said = [*(("UPSTREAM", address) for address in ADDRESSES), *SWITCHES]
    for task in scene.all(TASK):
        for index, _ in enumerate(task.raw["Properties"]["ContainerDefinitions"]):
            place = Place.of(task, "ContainerDefinitions", index)
            for name, value in said:
                yield edit(22, f"plaintext by {name}={value}", place, _adding(name, value))
    for function in scene.all(FUNCTION):
        variables = function.raw["Properties"].get("Environment", {}).get("Variables")
        if variables is not None:
            for name, value in said:
                yield from put(22, "plaintext", Place.of(function, "Environment", "Variables", name), value)
    for model in scene.all("AWS::SageMaker::Model"):
        if "Environment" in model.raw["Properties"].get("PrimaryContainer", {}):
            for name, value in said[:4]:
                yield from put(
                    22, "plaintext", Place.of(model, "PrimaryContainer", "Environment", name), value
                )


def _adding(name: str, value: str) -> Any:
    def change(raw: Raw) -> None:
        raw["Environment"] = [one for one in raw.get("Environment", []) if one["Name"] != name] + [
            {"Name": name, "Value": value}
        ]

    return change


def _deadlines(scene: Scene) -> Iterator[Mutation]:
    deadline = int(scene.facts.answer_deadline_s or 0)
    balanced = [
        entry
        for service in scene.all("AWS::ECS::Service")
        for entry in items(service.properties.get("LoadBalancers"))
    ]
    names = {text(at(entry, "ContainerName")) for entry in balanced}
    for task in scene.all(TASK):
        for index, container in enumerate(task.raw["Properties"]["ContainerDefinitions"]):
            if container["Name"] in names:
                place = Place.of(task, "ContainerDefinitions", index, "StopTimeout")
                for value in (DELETE, 2, 30, deadline - 1):
                    yield from put(22, "lower timeout", place, value)
    for entry in balanced:
        for target in targets(at(entry, "TargetGroupArn")):
            for seconds in (0, 30, deadline - 1):
                attributes = [{"Key": "deregistration_delay.timeout_seconds", "Value": str(seconds)}]
                place = Place.of(target.resource, "TargetGroupAttributes")
                yield from put(22, "lower timeout", place, attributes)
    for seconds in (121, 600):
        yield Mutation(
            number=22,
            operator="longer answers",
            where=str(seconds),
            change=lambda scene, seconds=seconds: scene.know(answer_deadline_s=float(seconds)),
        )
