"""What runs: Fargate tasks, functions, and SageMaker models behind endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from template_checks.policies import Policies, Statement, plain
from template_checks.templates import Resource, Templates
from template_checks.values import Target, Value, at, flag, items, mapping, targets, text

FUNCTIONS = ("AWS::Lambda::Function", "AWS::Serverless::Function")
MODEL = "AWS::SageMaker::Model"
ENDPOINT_CONFIG = "AWS::SageMaker::EndpointConfig"
ENDPOINT = "AWS::SageMaker::Endpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task definition with the services that run it."""

    definition: Resource
    services: tuple[Resource, ...]

    @property
    def containers(self) -> list[Mapping[str, Value]]:
        return [mapping(entry) for entry in items(self.definition.properties.get("ContainerDefinitions"))]

    @property
    def is_fargate(self) -> bool:
        """Whether its definition or a service of it says so."""
        asked = [text(name) for name in items(self.definition.properties.get("RequiresCompatibilities"))]
        for service in self.services:
            asked.append(text(service.properties.get("LaunchType")))
            for entry in items(service.properties.get("CapacityProviderStrategy")):
                asked.append(text(at(entry, "CapacityProvider")))
        return any(name.startswith("FARGATE") for name in asked)

    @property
    def subnets(self) -> list[Value]:
        return [subnet for service in self.services for subnet in _subnets_of_service(service)]

    @property
    def pulls_from_ecr(self) -> bool:
        return any(is_private_registry(text(container.get("Image"))) for container in self.containers)

    @property
    def has_exec(self) -> bool:
        return any(flag(service.properties.get("EnableExecuteCommand")) for service in self.services)


def _subnets_of_service(service: Resource) -> list[Value]:
    return items(at(service.properties.get("NetworkConfiguration"), "AwsvpcConfiguration", "Subnets"))


def is_private_registry(image: str) -> bool:
    """Return whether an image's address is one of a private ECR registry."""
    return ".dkr.ecr." in image


class Workloads:
    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    def tasks(self) -> list[Task]:
        """Return every task definition with its services."""
        services = self._templates.of("AWS::ECS::Service")
        return [
            Task(
                definition=definition,
                services=tuple(
                    service
                    for service in services
                    if any(
                        target.resource is definition
                        for target in targets(service.properties.get("TaskDefinition"))
                    )
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

    def variants(self) -> list[tuple[Resource, Mapping[str, Value]]]:
        """Return every variant of every endpoint configuration, shadow variants included."""
        return [
            (config, mapping(variant))
            for config in self._templates.of(ENDPOINT_CONFIG)
            for name in ("ProductionVariants", "ShadowProductionVariants")
            for variant in items(config.properties.get(name))
        ]

    def model_of(self, variant: Mapping[str, Value]) -> Resource | None:
        """Return the model of a variant; None where it is not in the templates."""
        name = variant.get("ModelName")
        if isinstance(name, Target):
            return name.resource
        return next(
            (
                m
                for m in self.models()
                if name is not None and text(m.properties.get("ModelName")) == text(name)
            ),
            None,
        )


def instance_types(variant: Mapping[str, Value]) -> list[Value]:
    """Return every instance type that a variant may stand on; none of a serverless one."""
    pools = [at(pool, "InstanceType") for pool in items(variant.get("InstancePools"))]
    return [value for value in (variant.get("InstanceType"), *pools) if value is not None]


def containers_of(model: Resource) -> list[Mapping[str, Value]]:
    """Return the containers of a SageMaker model."""
    return [
        mapping(entry)
        for name in ("PrimaryContainer", "Containers")
        for entry in items(model.properties.get(name))
    ]


def data_sources(container: Mapping[str, Value]) -> list[Mapping[str, Value]]:
    """Return the S3 data sources of a model's container (``S3Uri``, ``S3DataType``…)."""
    sources = [at(container.get("ModelDataSource"), "S3DataSource")]
    for entry in items(container.get("AdditionalModelDataSources")):
        sources.append(at(entry, "S3DataSource"))
    return [mapping(source) for source in sources if source is not None]


def model_addresses(container: Mapping[str, Value]) -> list[Value]:
    """Return the S3 addresses of everything that a container loads."""
    single = container.get("ModelDataUrl")
    return [source.get("S3Uri") for source in data_sources(container)] + ([single] if single else [])


def environment_of(container: Mapping[str, Value]) -> dict[str, Value]:
    """Return a container's environment, written as a mapping (SageMaker) or a list of pairs (ECS)."""
    found = container.get("Environment")
    if isinstance(found, dict):
        return {name: value for name, value in found.items() if name != "Variables"} | dict(
            mapping(found.get("Variables"))
        )
    return {text(at(pair, "Name")): at(pair, "Value") for pair in items(found)}


# Which AWS services a workload calls from its network, by its roles' policies and by what runs it.


_SERVICES: Mapping[str, tuple[str, ...]] = {
    "athena": ("athena",),
    "cloudwatch": ("monitoring",),
    "cognito-idp": ("cognito-idp",),
    "comprehend": ("comprehend",),
    "dynamodb": ("dynamodb",),
    "ecr": ("ecr.api", "ecr.dkr"),
    "ecs": ("ecs",),
    "events": ("events",),
    "execute-api": ("execute-api",),
    "firehose": ("kinesis-firehose",),
    "glue": ("glue",),
    "kinesis": ("kinesis-streams",),
    "kms": ("kms",),
    "lambda": ("lambda",),
    "logs": ("logs",),
    "polly": ("polly",),
    "s3": ("s3",),
    "scheduler": ("scheduler",),
    "secretsmanager": ("secretsmanager",),
    "sns": ("sns",),
    "sqs": ("sqs",),
    "ssm": ("ssm",),
    "ssmmessages": ("ssmmessages",),
    "states": ("states",),
    "sts": ("sts",),
    "textract": ("textract",),
    "transcribe": ("transcribe",),
    "translate": ("translate",),
    "xray": ("xray",),
}
"""Prefix of an action = services of the endpoints ("AWS services that integrate with AWS PrivateLink")."""
_BY_FUNCTION_SERVICE = ("ec2", "logs", "xray")
"""What Lambda itself does with a function's role, over its own network."""
_BY_POLLER = ("sqs:receive", "sqs:delete", "sqs:getqueue", "sqs:changemessage", "kinesis:", "dynamodb:")
_BY_EXEC = ("ssmmessages:",)
"""What the agent of ECS Exec calls, where that is on."""
_MANAGED = {
    "CloudWatchAgentServerPolicy": ("monitoring",),
    "AWSXRayDaemonWriteAccess": ("xray",),
    "AWSXrayWriteOnlyAccess": ("xray",),
    "SecretsManagerReadWrite": ("secretsmanager",),
    "AmazonSSMReadOnlyAccess": ("ssm",),
    "AmazonS3ReadOnlyAccess": ("s3",),
    "AmazonS3FullAccess": ("s3",),
    "AmazonSQSFullAccess": ("sqs",),
    "AmazonSNSFullAccess": ("sns",),
    "AmazonDynamoDBFullAccess": ("dynamodb",),
    "AmazonSageMakerFullAccess": ("sagemaker.runtime",),
    "AmazonEventBridgeFullAccess": ("events",),
}
"""AWS's own policies whose holders call a service by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A service that something in a VPC calls. ``because`` ends the sentence "it calls kms …"."""

    service: str
    caller: Resource
    because: str
    subnets: tuple[Value, ...]


class Calls:
    def __init__(self, templates: Templates, *, policies: Policies, workloads: Workloads) -> None:
        self._templates = templates
        self._policies = policies
        self._workloads = workloads

    def of_tasks(self) -> Iterator[Call]:
        """Yield what tasks call: by their role, and by what Fargate does for them over their own network."""
        for task in self._workloads.tasks():
            subnets = tuple(task.subnets)
            if task.is_fargate and (subnets or self._stands_alone(task)):
                role = self._policies.role(task.definition.properties.get("TaskRoleArn"))
                for service, because in [*self._of_role(role, _BY_EXEC), *_of_platform(task)]:
                    yield Call(service=service, caller=task.definition, because=because, subnets=subnets)

    def _stands_alone(self, task: Task) -> bool:
        """Return whether a task without a service can only run where the endpoints are."""
        return (
            not task.services
            and bool(self._templates.of("AWS::EC2::VPCEndpoint"))
            and not self._templates.of("AWS::EC2::InternetGateway", "AWS::EC2::NatGateway")
        )

    def of_functions(self) -> Iterator[Call]:
        """Yield what functions in a VPC call by their role."""
        for function in self._workloads.functions():
            subnets = tuple(self._workloads.functions_subnets(function))
            role = self._policies.role(function.properties.get("Role"))
            if subnets:
                for service, because in self._of_role(role, self._not_by_itself(function)):
                    yield Call(service=service, caller=function, because=because, subnets=subnets)

    def roles(self) -> Iterator[tuple[Resource, Value, tuple[Value, ...]]]:
        """Yield each caller in a VPC with the reference to its role, and its subnets."""
        for task in self._workloads.tasks():
            role = task.definition.properties.get("TaskRoleArn")
            if task.is_fargate and task.subnets and role is not None:
                yield task.definition, role, tuple(task.subnets)
        for function in self._workloads.functions():
            subnets = self._workloads.functions_subnets(function)
            if subnets and function.properties.get("Role") is not None:
                yield function, function.properties["Role"], tuple(subnets)

    def _of_role(self, role: Resource | None, without: Iterable[str]) -> Iterator[tuple[str, str]]:
        if role is None:
            return
        for arn in self._policies.managed(role):
            for service in _MANAGED.get(arn.rpartition("/")[2], ()):
                yield service, f"(its role has {arn.rpartition('/')[2]})"
        for statement in self._policies.of_role(role):
            for action in statement.actions if statement.allows else ():
                if not action.lower().startswith(tuple(without)) and not _is_on_behalf(statement, action):
                    for service in services_of(action):
                        yield service, f"(its role {role.logical_id} may {action})"

    def _not_by_itself(self, function: Resource) -> tuple[str, ...]:
        """Return the beginnings of actions that Lambda calls for a function, not the function."""
        own = [f"{prefix}:" for prefix in _BY_FUNCTION_SERVICE]
        if any(
            plain(mapping_.properties.get("FunctionName")) == plain_reference(function)
            for mapping_ in self._templates.of("AWS::Lambda::EventSourceMapping")
        ):
            own += _BY_POLLER
        if at(function.properties.get("DeadLetterConfig"), "TargetArn") is not None:
            own += ["sqs:sendmessage", "sns:publish"]
        return tuple(own)


def plain_reference(resource: Resource) -> str:
    """Return how ``plain`` writes a reference to a resource."""
    return f"<{resource.template.name}.{resource.logical_id}>"


def services_of(action: str) -> tuple[str, ...]:
    """Return the services whose endpoints an action goes through; none for one that is not known here."""
    prefix, _, name = action.lower().partition(":")
    if prefix == "sagemaker":
        return ("sagemaker.runtime",) if name.startswith(("invokeendpoint", "*")) else ("sagemaker.api",)
    if prefix == "bedrock":
        return ("bedrock-runtime",) if name.startswith(("invoke", "converse")) else ("bedrock",)
    return _SERVICES.get(prefix, ())


def _is_on_behalf(statement: Statement, action: str) -> bool:
    """Return whether another service calls KMS for the role's holder."""
    asked = {key.lower() for keys in statement.conditions.values() for key in keys}
    return action.lower().startswith("kms:") and "kms:viaservice" in asked


def _of_platform(task: Task) -> Iterator[tuple[str, str]]:
    for container in task.containers:
        name = text(container.get("Name"))
        if is_private_registry(text(container.get("Image"))):
            for service in ("ecr.api", "ecr.dkr", "s3"):
                yield service, f"(to pull the image of {name})"
        if text(at(container.get("LogConfiguration"), "LogDriver")) == "awslogs":
            yield "logs", f"(for the log of {name})"
        for secret in items(container.get("Secrets")):
            source = text(mapping(secret).get("ValueFrom"))
            is_parameter = ":parameter" in source or source.startswith("/")
            yield "ssm" if is_parameter else "secretsmanager", f"(for a secret of {name})"
