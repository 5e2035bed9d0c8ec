"""Workloads of templates: Fargate tasks, functions, SageMaker models, and the AWS services that they call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from template_checks.policies import Policies, Statement, plain
from template_checks.templates import Resource, Templates
from template_checks.values import Target, Value, at, flag, items, mapping, refers_to, text

FUNCTIONS = ("AWS::Lambda::Function", "AWS::Serverless::Function")
MODEL = "AWS::SageMaker::Model"
ENDPOINT_CONFIG = "AWS::SageMaker::EndpointConfig"
ENDPOINT = "AWS::SageMaker::Endpoint"
Container = Mapping[str, Value]
Variant = Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task definition with the services that run it."""

    definition: Resource
    services: tuple[Resource, ...]

    @property
    def containers(self) -> list[Container]:
        return [mapping(entry) for entry in items(self.definition.properties.get("ContainerDefinitions"))]

    @property
    def is_fargate(self) -> bool:
        """Whether its definition or one of its services says so."""
        names = list(items(self.definition.properties.get("RequiresCompatibilities")))
        for service in self.services:
            names.append(service.properties.get("LaunchType"))
            strategy = items(service.properties.get("CapacityProviderStrategy"))
            names += [at(entry, "CapacityProvider") for entry in strategy]
        return any(text(name).startswith("FARGATE") for name in names)

    @property
    def subnets(self) -> list[Value]:
        networks = [service.properties.get("NetworkConfiguration") for service in self.services]
        return [subnet for one in networks for subnet in items(at(one, "AwsvpcConfiguration", "Subnets"))]

    @property
    def pulls_from_ecr(self) -> bool:
        return any(is_private_registry(text(container.get("Image"))) for container in self.containers)

    @property
    def has_exec(self) -> bool:
        return any(flag(service.properties.get("EnableExecuteCommand")) for service in self.services)


def is_private_registry(image: str) -> bool:
    """Return whether an image is in a private ECR registry."""
    return ".dkr.ecr." in image


class Workloads:
    """Tasks, functions and models of the templates."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    def tasks(self) -> list[Task]:
        """Return every task definition with its services."""
        services = self._templates.of("AWS::ECS::Service")
        return [
            Task(
                definition=definition,
                services=tuple(
                    one for one in services if refers_to(one.properties.get("TaskDefinition"), definition)
                ),
            )
            for definition in self._templates.of("AWS::ECS::TaskDefinition")
        ]

    def functions(self) -> list[Resource]:
        """Return every Lambda function."""
        return self._templates.of(*FUNCTIONS)

    def functions_subnets(self, function: Resource) -> list[Value]:
        """Return the subnets of a function, its template's globals included; none outside a VPC."""
        own = at(function.properties.get("VpcConfig"), "SubnetIds")
        if own is None and function.type == "AWS::Serverless::Function":
            shared = self._templates.resolve(function.template.section("Globals"), within=function.template)
            own = at(shared, "Function", "VpcConfig", "SubnetIds")
        return items(own)

    def models(self) -> list[Resource]:
        """Return every SageMaker model."""
        return self._templates.of(MODEL)

    def containers(self) -> Iterator[tuple[Resource, Container]]:
        """Yield every container of tasks and models, with the task definition or model."""
        for task in self.tasks():
            yield from ((task.definition, container) for container in task.containers)
        for model in self.models():
            yield from ((model, container) for container in containers_of(model))

    def variants(self) -> list[tuple[Resource, Variant]]:
        """Return every variant of every endpoint configuration, shadow variants included."""
        return [
            (config, mapping(variant))
            for config in self._templates.of(ENDPOINT_CONFIG)
            for name in ("ProductionVariants", "ShadowProductionVariants")
            for variant in items(config.properties.get(name))
        ]

    def model_of(self, variant: Variant) -> Resource | None:
        """Return the model of a variant; None if it is not in the templates."""
        name = variant.get("ModelName")
        if isinstance(name, Target):
            return name.resource
        named = (model for model in self.models() if text(model.properties.get("ModelName")) == text(name))
        return None if name is None else next(named, None)


def instance_types(variant: Variant) -> list[Value]:
    """Return every instance type that a variant may run on; none for a serverless one."""
    pools = [at(pool, "InstanceType") for pool in items(variant.get("InstancePools"))]
    return [value for value in (variant.get("InstanceType"), *pools) if value is not None]


def containers_of(model: Resource) -> list[Container]:
    """Return the containers of a SageMaker model."""
    return [
        mapping(entry)
        for name in ("PrimaryContainer", "Containers")
        for entry in items(model.properties.get(name))
    ]


def subnets_of_model(model: Resource) -> list[Value]:
    """Return the subnets of a SageMaker model; none outside a VPC."""
    return items(at(model.properties.get("VpcConfig"), "Subnets"))


def data_sources(container: Container) -> list[Mapping[str, Value]]:
    """Return the S3 data sources of a model's container (``S3Uri``, ``S3DataType``…)."""
    entries = [container.get("ModelDataSource"), *items(container.get("AdditionalModelDataSources"))]
    sources = [at(entry, "S3DataSource") for entry in entries]
    return [mapping(source) for source in sources if source is not None]


def model_addresses(container: Container) -> list[Value]:
    """Return the S3 addresses of everything that a container loads."""
    single = container.get("ModelDataUrl")
    return [source.get("S3Uri") for source in data_sources(container)] + ([single] if single else [])


def environment_of(container: Container) -> dict[str, Value]:
    """Return a container's environment, written as a mapping (SageMaker) or a list of pairs (ECS)."""
    found = container.get("Environment")
    if isinstance(found, dict):
        return {name: value for name, value in found.items() if name != "Variables"} | dict(
            mapping(found.get("Variables"))
        )
    return {text(at(pair, "Name")): at(pair, "Value") for pair in items(found)}


def arguments_of(container: Container) -> list[str]:
    """Return a container's entry point and command."""
    return [text(one) for one in (*items(container.get("EntryPoint")), *items(container.get("Command")))]


# --- called services --------------------------------------------------------------------------------------
_ENDPOINTS: Mapping[str, tuple[str, ...]] = {
    "cloudwatch": ("monitoring",),
    "ecr": ("ecr.api", "ecr.dkr"),
    "firehose": ("kinesis-firehose",),
    "kinesis": ("kinesis-streams",),
}
"""Prefix of an action = services of the endpoints ("AWS services that integrate with AWS PrivateLink")."""
_SAME_NAME = frozenset(
    {
        *("dynamodb", "s3", "sns", "sqs", "events", "scheduler", "states"),
        *("kms", "secretsmanager", "ssm", "ssmmessages", "sts", "cognito-idp"),
        *("ecs", "lambda", "logs", "xray", "execute-api", "athena", "glue"),
        *("comprehend", "polly", "textract", "transcribe", "translate"),
    }
)
"""Prefixes of actions whose endpoint's service has the same name."""
_BY_LAMBDA = ("ec2:", "logs:", "xray:")
"""Actions that Lambda itself calls with a function's role, over its own network."""
_BY_POLLER = ("sqs:receive", "sqs:delete", "sqs:getqueue", "sqs:changemessage", "kinesis:", "dynamodb:")
_BY_EXEC = ("ssmmessages:",)
"""Actions that the agent of ECS Exec calls."""
_MANAGED = {
    "CloudWatchAgentServerPolicy": "monitoring",
    "AWSXRayDaemonWriteAccess": "xray",
    "AWSXrayWriteOnlyAccess": "xray",
    "SecretsManagerReadWrite": "secretsmanager",
    "AmazonSSMReadOnlyAccess": "ssm",
    "AmazonS3ReadOnlyAccess": "s3",
    "AmazonS3FullAccess": "s3",
    "AmazonSQSFullAccess": "sqs",
    "AmazonSNSFullAccess": "sns",
    "AmazonDynamoDBFullAccess": "dynamodb",
    "AmazonSageMakerFullAccess": "sagemaker.runtime",
    "AmazonEventBridgeFullAccess": "events",
}
"""An AWS managed policy = the service that its holders call themselves."""


def services_of(action: str) -> tuple[str, ...]:
    """Return the services whose endpoints an action goes through; none for an unknown prefix."""
    prefix, _, name = action.lower().partition(":")
    if prefix == "sagemaker":
        return ("sagemaker.runtime",) if name.startswith(("invokeendpoint", "*")) else ("sagemaker.api",)
    if prefix == "bedrock":
        return ("bedrock-runtime",) if name.startswith(("invoke", "converse")) else ("bedrock",)
    return (prefix,) if prefix in _SAME_NAME else _ENDPOINTS.get(prefix, ())


def is_for_kms_through_service(statement: Statement, action: str) -> bool:
    """Return whether a statement lets another service call KMS for the role, from its own network."""
    keys = {key.lower() for keys in statement.conditions.values() for key in keys}
    return action.lower().startswith("kms:") and "kms:viaservice" in keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A service that a workload in a VPC calls. ``because`` completes the sentence "it calls kms …"."""

    service: str
    caller: Resource
    because: str
    subnets: tuple[Value, ...]


class Calls:
    """The services that tasks and functions call from their VPC."""

    def __init__(self, templates: Templates, *, policies: Policies, workloads: Workloads) -> None:
        self._templates = templates
        self._policies = policies
        self._workloads = workloads

    def of_tasks(self) -> Iterator[Call]:
        """Yield what tasks call: with their role, and through Fargate over their own network."""
        for task in self._workloads.tasks():
            subnets = tuple(task.subnets)
            if task.is_fargate and (subnets or self._runs_only_here(task)):
                role = self._policies.role(task.definition.properties.get("TaskRoleArn"))
                for service, because in [*self._of_role(role, _BY_EXEC), *_of_fargate(task)]:
                    yield Call(service=service, caller=task.definition, because=because, subnets=subnets)

    def _runs_only_here(self, task: Task) -> bool:
        """Return whether a task without a service can only run in a VPC that has endpoints."""
        return (
            not task.services
            and bool(self._templates.of("AWS::EC2::VPCEndpoint"))
            and not self._templates.of("AWS::EC2::InternetGateway", "AWS::EC2::NatGateway")
        )

    def of_functions(self) -> Iterator[Call]:
        """Yield what functions in a VPC call with their role."""
        for function in self._workloads.functions():
            subnets = tuple(self._workloads.functions_subnets(function))
            role = self._policies.role(function.properties.get("Role"))
            for service, because in self._of_role(role, self._not_by_itself(function)) if subnets else ():
                yield Call(service=service, caller=function, because=because, subnets=subnets)

    def roles(self) -> Iterator[tuple[Resource, Value, tuple[Value, ...]]]:
        """Yield each caller in a VPC with the reference to its role, and its subnets."""
        callers = [
            (task.definition, task.definition.properties.get("TaskRoleArn"), task.subnets)
            for task in self._workloads.tasks()
            if task.is_fargate
        ]
        callers += [
            (function, function.properties.get("Role"), self._workloads.functions_subnets(function))
            for function in self._workloads.functions()
        ]
        for caller, role, subnets in callers:
            if subnets and role is not None:
                yield caller, role, tuple(subnets)

    def _of_role(self, role: Resource | None, without: Iterable[str]) -> Iterator[tuple[str, str]]:
        if role is None:
            return
        for arn in self._policies.managed(role):
            name = arn.rpartition("/")[2]
            if name in _MANAGED:
                yield _MANAGED[name], f"(its role has {name})"
        for statement in self._policies.of_role(role):
            for action in statement.actions if statement.allows else ():
                is_by_other = action.lower().startswith(tuple(without))
                if not is_by_other and not is_for_kms_through_service(statement, action):
                    for service in services_of(action):
                        yield service, f"(its role {role.logical_id} may {action})"

    def _not_by_itself(self, function: Resource) -> tuple[str, ...]:
        """Return the beginnings of actions that Lambda calls for a function."""
        own = _BY_LAMBDA
        reference = plain(Target(function))
        mappings = self._templates.of("AWS::Lambda::EventSourceMapping")
        if any(plain(one.properties.get("FunctionName")) == reference for one in mappings):
            own += _BY_POLLER
        if at(function.properties.get("DeadLetterConfig"), "TargetArn") is not None:
            own += ("sqs:sendmessage", "sns:publish")
        return own


def _of_fargate(task: Task) -> Iterator[tuple[str, str]]:
    for container in task.containers:
        name = text(container.get("Name"))
        if is_private_registry(text(container.get("Image"))):
            for service in ("ecr.api", "ecr.dkr", "s3"):
                yield service, f"(to pull the image of {name})"
        if text(at(container.get("LogConfiguration"), "LogDriver")) == "awslogs":
            yield "logs", f"(for the log of {name})"
        for secret in items(container.get("Secrets")):
            source = text(at(secret, "ValueFrom"))
            is_parameter = ":parameter" in source or source.startswith("/")
            yield "ssm" if is_parameter else "secretsmanager", f"(for a secret of {name})"
