"""Rules of AWS services that show only on AWS: at the first deployment, at the second, or under load.

A rule is a function of all templates of a tenant, in one world, that yields a finding for what breaks it. An
unknown value breaks a rule too. A finding: code ``nlb-idle-timeout``, "The NLB drops a silent connection
after 60 s.", fix "Set tcp.idle_timeout.seconds to 100 or more." What validators or ``reachability`` refuse
has no rule here (docs/decisions/0067-snapshots-and-rules.md). ``RULES`` at the end lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from template_checks.facts import ArtifactFact, Facts, Finding, ImageFact, refused
from template_checks.networks import LoadBalancing, attribute, port_of
from template_checks.policies import Policies, plain, statements
from template_checks.templates import (
    Resource,
    Target,
    Templates,
    Value,
    at,
    flag,
    integer,
    items,
    mapping,
    targets,
    text,
    texts_of,
)


@dataclass(frozen=True)
class Deployment:
    """The templates of one tenant in one world, and the facts of its file."""

    templates: Templates
    facts: Facts

    @cached_property
    def balancing(self) -> LoadBalancing:
        return LoadBalancing(self.templates)

    @property
    def deadline_s(self) -> float:
        """How long a whole answer may take; 0 where the facts do not say."""
        return self.facts.answer_deadline_s or 0.0

    def containers(self) -> Iterator[tuple[Resource, Mapping[str, Value]]]:
        """Yield every container of a task definition or a model, with that resource."""
        for resource in self.templates.of("AWS::ECS::TaskDefinition", MODEL):
            for name in ("ContainerDefinitions", "PrimaryContainer", "Containers"):
                for container in items(resource.properties.get(name)):
                    yield resource, mapping(container)

    def variants(self) -> Iterator[tuple[Resource, Mapping[str, Value], list[str]]]:
        """Yield every variant with its endpoint configuration and the instance types that it may run on."""
        for config in self.templates.of(ENDPOINT_CONFIG):
            for name in ("ProductionVariants", "ShadowProductionVariants"):
                for variant in items(config.properties.get(name)):
                    pools = [at(pool, "InstanceType") for pool in items(at(variant, "InstancePools"))]
                    types = [text(kind) for kind in (at(variant, "InstanceType"), *pools) if kind is not None]
                    yield config, mapping(variant), types


MODEL = "AWS::SageMaker::Model"
ENDPOINT_CONFIG = "AWS::SageMaker::EndpointConfig"
Rule = Callable[[Deployment], Iterator[Finding]]


def check_rules(templates: Templates, *, facts: Facts) -> list[Finding]:
    """Return a finding for everything that breaks a rule, in any world of the templates."""
    findings: dict[Finding, None] = {}
    for world in templates.worlds():
        deployment = Deployment(world, facts)
        for rule in RULES:
            findings.update(dict.fromkeys(rule(deployment)))
    return list(findings)


# --- load balancers ---------------------------------------------------------------------------------------
def _alb_targets(deployment: Deployment) -> Iterator[Finding]:
    """A target group of type alb takes TCP only, on a port on which the ALB listens before, and no
    attributes."""
    balancing = deployment.balancing
    for group in balancing.groups_of_load_balancers():
        balancer = balancing.target_of(group)
        ports = {text(port_of(group))} | {
            text(at(target, "Port")) for target in items(group.properties.get("Targets"))
        }
        listener = balancing.listener_on(balancer, port_of(group)) if balancer else None
        if "TargetGroupAttributes" in group.properties:
            message = "Attributes of a target group of type alb cannot be changed; such a template fails."
            fix = "Remove TargetGroupAttributes."
            yield refused(group, "alb-target-attributes", message, fix)
        if text(group.properties.get("Protocol")) != "TCP":
            message = "A target group of type alb takes TCP only."
            yield refused(group, "alb-target-protocol", message, "Set Protocol to TCP.")
        if listener is None or len(ports) != 1:
            message = f"The ALB has no listener on {' and '.join(sorted(ports))}."
            yield refused(group, "alb-target-port", message, "Use the port of the ALB's listener.")
        elif listener not in deployment.templates.dependencies(group):
            message = "An ALB is accepted as a target only once it listens on the port."
            fix = f"Let it depend on {listener.logical_id}."
            yield refused(group, "alb-listener-dependency", message, fix)


_ALB_DEFAULT_IDLE_S = 60


def _idle_timeouts(deployment: Deployment) -> Iterator[Finding]:
    """No load balancer may close a connection that is silent while the model writes nothing."""
    for balancer in deployment.balancing.application:
        seconds = integer(attribute(balancer, "idle_timeout.timeout_seconds", of="LoadBalancerAttributes"))
        if seconds is None or seconds <= _ALB_DEFAULT_IDLE_S or seconds < deployment.deadline_s:
            message = f"The ALB closes a silent stream after {seconds or _ALB_DEFAULT_IDLE_S} s."
            fix = f"Set idle_timeout.timeout_seconds above 60 and to {deployment.deadline_s} or more."
            yield refused(balancer, "alb-idle-timeout", message, fix)
    for balancer in deployment.balancing.network:
        for listener in deployment.balancing.listeners(balancer):
            seconds = integer(attribute(listener, "tcp.idle_timeout.seconds", of="ListenerAttributes"))
            if seconds is None or seconds < deployment.deadline_s:
                message = f"The NLB drops a silent connection after {seconds or 'a default of some'} s."
                fix = f"Set tcp.idle_timeout.seconds to {deployment.deadline_s} or more."
                yield refused(listener, "nlb-idle-timeout", message, fix)


_DEFAULT_DRAIN_S = 300
"""``deregistration_delay.timeout_seconds`` of a target group."""
_DEFAULT_STOP_S = 30
"""``StopTimeout`` of a container."""


def _deadlines(deployment: Deployment) -> Iterator[Finding]:
    """When a task is replaced, its streams end with the shorter of the drain and the stop timeout."""
    for service in deployment.templates.of("AWS::ECS::Service"):
        for entry in items(service.properties.get("LoadBalancers")):
            for group in targets(at(entry, "TargetGroupArn")):
                key = "deregistration_delay.timeout_seconds"
                value = attribute(group.resource, key, of="TargetGroupAttributes")
                drain_s = _DEFAULT_DRAIN_S if value is None else integer(value)
                if drain_s is None or drain_s < deployment.deadline_s:
                    message = (
                        f"An answer takes up to {deployment.deadline_s} s; the drain ends after {drain_s}."
                    )
                    fix = f"Set {key} to the answers' deadline or more."
                    yield refused(group.resource, "deadline", message, fix)
            for definition in targets(service.properties.get("TaskDefinition")):
                yield from _stop_timeout(deployment, definition.resource, text(at(entry, "ContainerName")))


def _stop_timeout(deployment: Deployment, definition: Resource, name: str) -> Iterator[Finding]:
    """Refuse a container ``name`` that is killed before its answers end."""
    for container in items(definition.properties.get("ContainerDefinitions")):
        stop_s = integer(at(container, "StopTimeout")) or _DEFAULT_STOP_S
        if text(at(container, "Name")) == name and stop_s < deployment.deadline_s:
            message = f"An answer takes up to {deployment.deadline_s} s; the task is killed after {stop_s}."
            fix = "Set StopTimeout to the answers' deadline or more."
            yield refused(definition, "deadline", message, fix)


# --- plaintext --------------------------------------------------------------------------------------------
_ADDRESS = re.compile(r"\b([a-z][a-z0-9+.-]*)://([^/\s:?]*)([^\s]*)", re.I)
"""Scheme, host and rest of an address: ``https``, ``search``, ``:443/_search``."""
_SCHEMES_WITH_TLS = ("https", "wss", "rediss", "amqps", "s3")
"""Ends of schemes (``postgres+https``)."""
_LOOPBACK = ("127.0.0.1", "localhost", "[")
_OPTIONAL_TLS = re.compile(r"sslmode=(?!verify-full|verify-ca|require)", re.I)
"""A value of ``sslmode`` (``prefer``, ``allow``, ``disable``) with which a client may go on without TLS."""
_TLS_SWITCH = re.compile(r"(?:^|_)(?:TLS|SSL|HTTPS)(?:_|$)", re.I)
"""Name of a variable that switches TLS (``SEARCH_TLS``); its value ``false`` switches it off."""


def _plaintext(deployment: Deployment) -> Iterator[Finding]:
    """Every hop has TLS, also inside the VPC."""
    yield from _plaintext_balancing(deployment)
    fix = "Use TLS on this hop."
    for domain in deployment.templates.of(_DOMAIN):
        for path in (("DomainEndpointOptions", "EnforceHTTPS"), ("NodeToNodeEncryptionOptions", "Enabled")):
            if flag(at(domain.properties.get(path[0]), path[1])) is not True:
                yield refused(domain, "plaintext-hop", "Searches travel without TLS.", fix)
    for resource, name, value in _stated_texts(deployment):
        if is_plaintext(name, value):
            message = f"{name} names an address without TLS, or switches TLS off."
            yield refused(resource, "plaintext-hop", message, fix)


def _plaintext_balancing(deployment: Deployment) -> Iterator[Finding]:
    fix = "Use TLS on this hop."
    for listener in deployment.templates.of("AWS::ElasticLoadBalancingV2::Listener"):
        is_of_nlb = any(
            target.resource in deployment.balancing.network
            for target in targets(listener.properties["LoadBalancerArn"])
        )
        protocol, wanted = text(listener.properties.get("Protocol")), "TCP" if is_of_nlb else "HTTPS"
        if protocol != wanted:
            message = f"Its protocol is {protocol}; TLS goes through the NLB and ends at the ALB."
            yield refused(listener, "plaintext-hop", message, f"Set Protocol to {wanted}.")
    for group in deployment.templates.of("AWS::ElasticLoadBalancingV2::TargetGroup"):
        values = group.properties
        is_alb = text(values.get("TargetType")) == "alb"
        if not is_alb and text(values.get("Protocol")) != "HTTPS":
            yield refused(group, "plaintext-hop", "The tasks are called without TLS.", fix)
        if text(values.get("HealthCheckProtocol")) != "HTTPS":
            message = "Its health check is made without TLS, which is the default."
            yield refused(group, "plaintext-hop", message, fix)


def is_plaintext(name: str, value: str) -> bool:
    """Return whether a variable's value is an address outside its own task without TLS, or turns TLS off."""
    if _TLS_SWITCH.search(name) and flag(value) is False:
        return True
    for scheme, host, rest in _ADDRESS.findall(value):
        if host.startswith(_LOOPBACK):
            continue
        has_tls = scheme.lower().endswith(_SCHEMES_WITH_TLS) or "sslmode=" in rest
        if not has_tls or _OPTIONAL_TLS.search(rest):
            return True
    return False


def _stated_texts(deployment: Deployment) -> Iterator[tuple[Resource, str, str]]:
    """Yield every text that a container, a function or a destination of events is given: resource, name and
    text of a variable, a command's argument, or an address."""
    for resource, container in deployment.containers():
        for field in ("Command", "EntryPoint"):
            yield from ((resource, field, plain(argument)) for argument in items(container.get(field)))
        yield from ((resource, name, value) for name, value in _environment(container))
    for function in deployment.templates.of(*_FUNCTIONS):
        for name, value in mapping(at(function.properties.get("Environment"), "Variables")).items():
            for field, inner in texts_of(name, plain(value)):
                yield function, field, inner
    for destination in deployment.templates.of("AWS::Events::ApiDestination"):
        yield destination, "InvocationEndpoint", plain(destination.properties.get("InvocationEndpoint"))


def _environment(container: Mapping[str, Value]) -> Iterator[tuple[str, str]]:
    """Yield name and value of a container's variables: an object (SageMaker) or a list of pairs (ECS). Of a
    value that is JSON, yield each text in it (``texts_of``)."""
    environment = container.get("Environment")
    pairs = (
        environment.items()
        if isinstance(environment, dict)
        else [(text(at(item, "Name")), at(item, "Value")) for item in items(environment)]
    )
    for name, value in pairs:
        yield from texts_of(name, plain(value))


# --- the VPC and the search domain ------------------------------------------------------------------------
_DOMAIN = "AWS::OpenSearchService::Domain"
_ZONES_OF_STANDBY = 3


def _zones(deployment: Deployment) -> Iterator[Finding]:
    """Subnets lie in the tenant's zones (without an account CDK makes some up). Private DNS of endpoints
    needs the VPC's DNS support and host names."""
    for subnet in deployment.templates.of("AWS::EC2::Subnet"):
        zone = text(subnet.properties.get("AvailabilityZone"))
        if zone not in deployment.facts.zones:
            message = f"Its zone, {zone or 'absent'}, is not one of the account's."
            fix = f"Use one of {', '.join(deployment.facts.zones)}."
            yield refused(subnet, "invented-zone", message, fix)
    for vpc in deployment.templates.of("AWS::EC2::VPC"):
        for name in ("EnableDnsHostnames", "EnableDnsSupport"):
            if flag(vpc.properties.get(name)) is not True:
                message = "Private DNS of interface endpoints needs both attributes of the VPC."
                yield refused(vpc, "endpoint-private-dns", message, f"Set {name}: true.")


def _domains(deployment: Deployment) -> Iterator[Finding]:
    """OpenSearch refuses a standby on anything but three zones, three masters and nodes in threes."""
    for domain in deployment.templates.of(_DOMAIN):
        cluster = mapping(domain.properties.get("ClusterConfig"))
        if flag(cluster.get("MultiAZWithStandbyEnabled")) is True:
            yield from _standby(domain, cluster)
        for statement in statements(domain.properties.get("AccessPolicies")):
            names = [*statement.principals.get("*", ()), *statement.principals.get("AWS", ())]
            if statement.allows and (statement.not_principals or any("*" in name for name in names)):
                message = "Its access policy allows every principal."
                yield refused(domain, "open-access-policy", message, "Name the principals.")
    for role in deployment.templates.of("AWS::IAM::ServiceLinkedRole"):
        message = "An account has one service-linked role for all of its domains; a second one fails."
        fix = "Make it in the stack of the account."
        yield refused(role, "service-linked-role", message, fix)
    for policy in deployment.templates.of("AWS::Logs::ResourcePolicy"):
        message = "A region has at most ten log resource policies; tenants share that of the account."
        yield refused(policy, "log-policies", message, "Remove it.")


def _standby(domain: Resource, cluster: Mapping[str, Value]) -> Iterator[Finding]:
    subnets = {text(item) for item in items(at(domain.properties.get("VPCOptions"), "SubnetIds"))}
    zones = integer(at(cluster.get("ZoneAwarenessConfig"), "AvailabilityZoneCount"))
    is_aware = flag(cluster.get("ZoneAwarenessEnabled")) is True
    if not is_aware or not zones == len(subnets) == _ZONES_OF_STANDBY:
        message = "A standby needs a domain that is aware of three zones, with a subnet in each."
        fix = "Set AvailabilityZoneCount: 3, and name three subnets."
        yield refused(domain, "standby-zones", message, fix)
    masters = (
        integer(cluster.get("DedicatedMasterCount")) if flag(cluster.get("DedicatedMasterEnabled")) else 0
    )
    nodes = integer(cluster.get("InstanceCount")) or 1
    if masters != _ZONES_OF_STANDBY or nodes % _ZONES_OF_STANDBY:
        message = (
            f"A standby needs three dedicated masters and nodes in threes; it has {masters} and {nodes}."
        )
        fix = "Set DedicatedMasterCount: 3, and InstanceCount to a multiple of 3."
        yield refused(domain, "standby-nodes", message, fix)
    for name in ("InstanceType", "DedicatedMasterType"):
        if text(cluster.get(name)).startswith(("t2.", "t3.")):
            message = "OpenSearch refuses burstable instances with a standby."
            yield refused(domain, "burstable-with-standby", message, "Use m or r.")


# --- containers and functions -----------------------------------------------------------------------------
_IMAGE = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.[^/]+/(?P<repository>[^:@]+)"
    r"(?P<pin>@(?:sha256:[0-9a-f]{64}|\$\{.+\})|:\S*(?:\d+\.\d+|[0-9a-f]{7,40}|\d{8})\S*)"
)
"""With a digest, or a tag that stays: a version of two numbers or more, a commit, a date."""


def _images(deployment: Deployment) -> Iterator[Finding]:
    """Images are pinned, of the account that publishes them, and for the CPU of the task."""
    table = {fact.repository: fact for fact in deployment.facts.images}
    for resource, container in deployment.containers():
        address = plain(container.get("Image"))
        match = _IMAGE.fullmatch(address)
        if match is None:
            message = f"{address or 'Its image'} is in no private registry, or its tag may move."
            fix = "Use an image of ECR by its digest."
            yield refused(resource, "image-unpinned", message, fix)
            continue
        fact = table.get(match["repository"])
        publisher = fact and (fact.accounts.get(match["region"]) or resource.account)
        if publisher != match["account"]:
            message = f"{address} is not what the image table publishes there."
            fix = f"Use account {publisher}." if publisher else "Add the image to the image table."
            yield refused(resource, "image-account", message, fix)
        yield from _architecture(resource, fact)


def _architecture(resource: Resource, image: ImageFact | None) -> Iterator[Finding]:
    platform = at(resource.properties.get("RuntimePlatform"), "CpuArchitecture")
    built = (image.architecture if image else None) or "X86_64"
    if platform is not None and text(platform) != built:
        message = (
            f"The task runs on {text(platform)}, and {image.repository if image else ''} is for {built}."
        )
        fix = f"Set CpuArchitecture to {built}, or publish the image for the other."
        yield refused(resource, "architecture-mismatch", message, fix)


def _tasks(deployment: Deployment) -> Iterator[Finding]:
    """A Fargate task can pull its images, write below /tmp, and open sessions of ECS Exec."""
    for definition in deployment.templates.of("AWS::ECS::TaskDefinition"):
        if definition.properties.get("ExecutionRoleArn") in (None, definition.properties.get("TaskRoleArn")):
            message = "Without an execution role of its own it cannot pull its images or write its log."
            fix = "Give it an execution role."
            yield refused(definition, "no-pull-rights", message, fix)
        for container in items(definition.properties.get("ContainerDefinitions")):
            paths = [text(at(item, "ContainerPath")) for item in items(at(container, "MountPoints"))]
            is_essential = flag(at(container, "Essential")) is not False
            if is_essential and flag(at(container, "ReadonlyRootFilesystem")) and "/tmp" not in paths:  # noqa: S108 - in the container
                message = f"{text(at(container, 'Name'))} fails at its first temporary file."
                fix = "Mount a volume at /tmp."
                yield refused(definition, "read-only-without-tmp", message, fix)
    policies = Policies(deployment.templates)
    for service in deployment.templates.of("AWS::ECS::Service"):
        for definition in targets(service.properties.get("TaskDefinition")):
            role = policies.role(definition.resource.properties.get("TaskRoleArn"))
            allowed = [statement for statement in policies.of_role(role) if statement.allows] if role else []
            has_exec = flag(service.properties.get("EnableExecuteCommand")) is True
            if has_exec and not all(
                any(statement.names_action(name) for statement in allowed) for name in _CHANNELS
            ):
                message = "ECS Exec opens its channel with the task's role, which may not do that."
                fix = f"Allow the task's role {', '.join(_CHANNELS)}."
                yield refused(service, "exec-without-rights", message, fix)


_CHANNELS = tuple(
    f"ssmmessages:{verb}{channel}Channel" for verb in ("Create", "Open") for channel in ("Control", "Data")
)


_FUNCTIONS = ("AWS::Lambda::Function", "AWS::Serverless::Function")


def _log_buckets(deployment: Deployment) -> Iterator[Finding]:
    """Load balancers write access logs to SSE-S3 buckets without Object Lock, if the policy allows it."""
    policies = deployment.templates.of("AWS::S3::BucketPolicy")
    for balancer in deployment.balancing.application:
        value = attribute(balancer, "access_logs.s3.bucket", of="LoadBalancerAttributes")
        for target in targets(value):
            bucket = target.resource
            if "aws:kms" in str(bucket.properties.get("BucketEncryption")):
                message = "Load balancers cannot use a KMS key: no log arrives."
                yield refused(bucket, "log-bucket-key", message, "Use SSE-S3.")
            if (
                flag(bucket.properties.get("ObjectLockEnabled"))
                or "ObjectLockConfiguration" in bucket.properties
            ):
                message = "Load balancers cannot write to a bucket with Object Lock: no log arrives."
                yield refused(bucket, "log-bucket-object-lock", message, "Remove it.")
            allowed = [
                statement
                for policy in policies
                if any(target.resource is bucket for target in targets(policy.properties.get("Bucket")))
                for statement in statements(policy.properties.get("PolicyDocument"))
                if statement.allows and statement.names_action("s3:PutObject")
            ]
            if not any(_ELB in statement.principals.get("Service", ()) for statement in allowed):
                message = f"Its policy does not allow {_ELB} s3:PutObject: no log arrives."
                fix = "Allow it, with aws:SourceAccount as condition."
                yield refused(bucket, "log-bucket-delivery", message, fix)


_ELB = "logdelivery.elasticloadbalancing.amazonaws.com"


# --- models -----------------------------------------------------------------------------------------------
_NEURON = ("ml.inf2.", "ml.trn1.", "ml.trn1n.", "ml.trn2.")
_SHORTEST_START_S = 1800
"""Loading a compiled model onto the cores takes up to half an hour."""


def _instances(deployment: Deployment) -> Iterator[Finding]:
    """Neuron instances need their machine image and half an hour to load; local disks take no key."""
    for config, variant, types in deployment.variants():
        for type_name in types:
            fact = deployment.facts.instances.get(type_name)
            if fact is None:
                message = f"{type_name} is not in the instance table, so its cores and disks are unknown."
                fix = "Add it to the instance table, with its cores and disks."
                yield refused(config, "instance-unknown", message, fix)
            elif fact.has_local_disk and "KmsKeyId" in config.properties:
                message = f"{type_name} has local disks: CreateEndpointConfig refuses any key there."
                fix = "Remove KmsKeyId: the instance encrypts its disks in hardware."
                yield refused(config, "local-disk-key", message, fix)
        if not any(type_name.startswith(_NEURON) for type_name in types):
            continue
        if "neuron" not in text(variant.get("InferenceAmiVersion")):
            message = "The default image of the instance has no Neuron driver that the container can use."
            fix = "Set InferenceAmiVersion: al2-ami-sagemaker-inference-neuron-2."
            yield refused(config, "neuron-ami", message, fix)
        if (integer(variant.get("ContainerStartupHealthCheckTimeoutInSeconds")) or 0) < _SHORTEST_START_S:
            message = "Loading a compiled model takes up to half an hour."
            fix = f"Set ContainerStartupHealthCheckTimeoutInSeconds to {_SHORTEST_START_S} or more."
            yield refused(config, "neuron-start-limit", message, fix)


_SHAPES: Mapping[str, re.Pattern[str]] = {
    "batch_size": re.compile(r"BATCH_SIZE$|MAX_NUM_SEQS$"),
    "sequence_length": re.compile(r"SEQUENCE_LENGTH$|MAX_MODEL_LEN$"),
    "tensor_parallel": re.compile(r"TENSOR_PARALLEL_SIZE$"),
}
"""By the field of an artifact, the variables of containers that state it (``SM_ON_BATCH_SIZE``)."""


def _artifacts(deployment: Deployment) -> Iterator[Finding]:
    """A compiled artifact serves exactly the shapes of its manifest, on as many cores."""
    for model, container in _models(deployment):
        address = plain(_source(container).get("S3Uri"))
        artifact = next(
            (artifact for artifact in deployment.facts.artifacts if artifact.uri and artifact.uri in address),
            None,
        )
        if artifact is None:
            message = f"It loads {address or 'nothing'}, which no manifest of an artifact names."
            fix = "Load an artifact with a manifest under model_artifacts."
            yield refused(model, "artifact-parameters", message, fix)
            continue
        yield from _shapes(model, container, artifact)
        for config, variant, types in deployment.variants():
            cores = [
                deployment.facts.instances[type_name].cores
                for type_name in types
                if type_name in deployment.facts.instances
            ]
            is_own = any(target.resource is model for target in targets(variant.get("ModelName")))
            if is_own and any((artifact.tensor_parallel or 0) > count > 0 for count in cores):
                message = f"{artifact.name} needs {artifact.tensor_parallel} cores; {types} has {min(cores)}."
                fix = "Use a larger instance, or an artifact that is compiled for this one."
                yield refused(config, "too-many-cores", message, fix)


def _shapes(model: Resource, container: Mapping[str, Value], artifact: ArtifactFact) -> Iterator[Finding]:
    """Refuse a container whose variables state other shapes than the artifact's, or only some of them."""
    environment = dict(_environment(container))
    if not any(pattern.search(name) for pattern in _SHAPES.values() for name in environment):
        return  # a container without compiled shapes (embedding, our own server)
    for field, pattern in _SHAPES.items():
        wanted: int | None = getattr(artifact, field)
        stated = {name: value for name, value in environment.items() if pattern.search(name)}
        if wanted is None or (stated and all(integer(value) == wanted for value in stated.values())):
            continue
        message = f"{artifact.name} is compiled for {field} {wanted}; the container has {stated or 'none'}."
        fix = f"Set the container's {field} to {wanted}."
        yield refused(model, "artifact-parameters", message, fix)


_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""``owner/name``; a path starts with a slash."""


def _sources(deployment: Deployment) -> Iterator[Finding]:
    """Models come from S3, since a closed VPC reaches no hub, and from a prefix that ends with a slash."""
    for model, container in _models(deployment):
        entries = [container.get("ModelDataSource"), *items(container.get("AdditionalModelDataSources"))]
        for source in (at(entry, "S3DataSource") for entry in entries):
            if "HubAccessConfig" in mapping(source):
                message = "It loads from a model hub, which a closed VPC does not reach."
                yield refused(model, "hub-id", message, "Load it from S3.")
            if text(at(source, "S3DataType")) == "S3Prefix" and not plain(at(source, "S3Uri")).endswith("/"):
                message = "SageMaker reads an S3 prefix as a folder only with a slash at its end."
                yield refused(model, "prefix-without-slash", message, "Add the slash.")
    for resource, container in deployment.containers():
        for name, value in _environment(container):
            is_address = resource.type == MODEL and value.startswith(("http:", "https:"))
            if is_address or _HUB_ID.fullmatch(value):
                message = f"{name} names a model of a hub, which a closed VPC does not reach."
                yield refused(resource, "hub-id", message, "Load it from S3 or its own files.")


def _models(deployment: Deployment) -> Iterator[tuple[Resource, Mapping[str, Value]]]:
    return (pair for pair in deployment.containers() if pair[0].type == MODEL)


def _source(container: Mapping[str, Value]) -> Mapping[str, Value]:
    return mapping(at(container.get("ModelDataSource"), "S3DataSource"))


def _names(deployment: Deployment) -> Iterator[Finding]:
    """Models and configurations have generated names: CloudFormation creates a replacement before it deletes
    the old one, which fails under a fixed name."""
    fix = "Leave the name out, and refer to the resource."
    for kind, name in ((MODEL, "ModelName"), (ENDPOINT_CONFIG, "EndpointConfigName")):
        for resource in deployment.templates.of(kind):
            if name in resource.properties:
                message = "Its replacement is made under the same name before it is deleted, and fails."
                yield refused(resource, "hard-coded-name", message, fix)
    # Where one names the other, it must be a reference, which follows a replacement.
    references = [(config, variant.get("ModelName")) for config, variant, _ in deployment.variants()]
    references += [
        (endpoint, endpoint.properties.get("EndpointConfigName"))
        for endpoint in deployment.templates.of("AWS::SageMaker::Endpoint")
    ]
    for resource, value in references:
        if not isinstance(value, Target):
            message = f"{text(value)} stays when what it names is replaced."
            yield refused(resource, "hard-coded-reference", message, fix)


def _updates(deployment: Deployment) -> Iterator[Finding]:
    """An update keeps the instances of a loaded endpoint, and scaling waits for its endpoint."""
    endpoints = deployment.templates.of("AWS::SageMaker::Endpoint")
    for endpoint in endpoints:
        values = endpoint.properties
        if flag(values.get("RetainAllVariantProperties")) is not True or values.get(
            "ExcludeRetainedVariantProperties"
        ):
            message = "An update scales a loaded endpoint back to its initial count."
            fix = "Set RetainAllVariantProperties: true, and exclude nothing."
            yield refused(endpoint, "retain-variants", message, fix)
    for target in deployment.templates.of("AWS::ApplicationAutoScaling::ScalableTarget"):
        is_of_endpoint = text(target.properties.get("ServiceNamespace")) == "sagemaker"
        if is_of_endpoint and not set(endpoints) & deployment.templates.dependencies(target):
            message = "It may be made before its endpoint, which it names by text."
            yield refused(target, "scaling-before-endpoint", message, "Depend on the endpoint.")


def _capture(deployment: Deployment) -> Iterator[Finding]:
    """Captured questions and answers are encrypted by the tenant's key."""
    for config in deployment.templates.of(ENDPOINT_CONFIG):
        capture = config.properties.get("DataCaptureConfig")
        if capture is not None and at(capture, "KmsKeyId") is None:
            message = "SageMaker writes captured data without the tenant's key."
            yield refused(config, "capture-without-key", message, "Set KmsKeyId.")


RULES: tuple[Rule, ...] = (
    _alb_targets,
    _idle_timeouts,
    _deadlines,
    _plaintext,
    _zones,
    _domains,
    _images,
    _tasks,
    _log_buckets,
    _instances,
    _artifacts,
    _sources,
    _names,
    _updates,
    _capture,
)
"""All rules; ``check_rules`` runs each in every world."""
