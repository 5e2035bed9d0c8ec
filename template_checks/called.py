"""Which AWS services a workload calls from its network, by its roles' policies and by what runs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from template_checks.policies import Policies, Statement, plain
from template_checks.templates import Resource, Templates
from template_checks.values import Value, at, items, mapping, text
from template_checks.workloads import Task, Workloads, is_private_registry

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
