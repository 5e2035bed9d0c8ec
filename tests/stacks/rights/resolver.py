"""Templates with every reference resolved to a made-up name of the correct form."""

from __future__ import annotations

import re
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PARTITION = "aws"
_ID = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
_NAMED_BY = {
    "AWS::IAM::Role": "RoleName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::SageMaker::Endpoint": "EndpointName",
    "AWS::ECR::Repository": "RepositoryName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SSM::Parameter": "Name",
    "AWS::SecretsManager::Secret": "Name",
}
_ARNS = {
    "AWS::CloudTrail::Trail": "cloudtrail:{region}:{account}:trail/{name}",
    "AWS::DynamoDB::Table": "dynamodb:{region}:{account}:table/{name}",
    "AWS::ECR::Repository": "ecr:{region}:{account}:repository/{name}",
    "AWS::ECS::Cluster": "ecs:{region}:{account}:cluster/{name}",
    "AWS::ECS::Service": "ecs:{region}:{account}:service/{name}",
    "AWS::ECS::TaskDefinition": "ecs:{region}:{account}:task-definition/{name}:1",
    "AWS::EMRServerless::Application": "emr-serverless:{region}:{account}:/applications/{name}",
    "AWS::Events::Rule": "events:{region}:{account}:rule/{name}",
    "AWS::IAM::ManagedPolicy": "iam::{account}:policy{path}{name}",
    "AWS::IAM::Role": "iam::{account}:role{path}{name}",
    "AWS::KMS::Key": "kms:{region}:{account}:key/{id}",
    "AWS::Lambda::Function": "lambda:{region}:{account}:function:{name}",
    "AWS::Logs::LogGroup": "logs:{region}:{account}:log-group:{name}:*",
    "AWS::OpenSearchService::Domain": "es:{region}:{account}:domain/{name}",
    "AWS::S3::Bucket": "s3:::{name}",
    "AWS::SNS::Topic": "sns:{region}:{account}:{name}",
    "AWS::SQS::Queue": "sqs:{region}:{account}:{name}",
    "AWS::SageMaker::Endpoint": "sagemaker:{region}:{account}:endpoint/{name}",
    "AWS::SageMaker::EndpointConfig": "sagemaker:{region}:{account}:endpoint-config/{name}",
    "AWS::SageMaker::Model": "sagemaker:{region}:{account}:model/{name}",
    # Secrets Manager adds six characters to the name.
    "AWS::SecretsManager::Secret": "secretsmanager:{region}:{account}:secret:{name}-a1B2c3",
    "AWS::StepFunctions::StateMachine": "states:{region}:{account}:stateMachine:{name}",
}
_REF_IS_ARN = (
    "AWS::ECS::TaskDefinition",
    "AWS::IAM::ManagedPolicy",
    "AWS::SNS::Topic",
    "AWS::SageMaker::Endpoint",
    "AWS::SecretsManager::Secret",
    "AWS::StepFunctions::StateMachine",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stack:
    name: str
    account: str
    region: str
    template: Mapping[str, Any]

    @property
    def resources(self) -> Mapping[str, Mapping[str, Any]]:
        return self.template["Resources"]


class Resolver:
    """Resolves all stacks of an account together, because they refer to each other's outputs."""

    def __init__(self, stacks: list[Stack]) -> None:
        self._stacks = {stack.name: stack for stack in stacks}

    def value(self, value: Any, stack: Stack) -> Any:
        """Return a value of the stack's template with nothing left to resolve."""
        if isinstance(value, list):
            return [self.value(item, stack) for item in value]
        if not isinstance(value, Mapping):
            return value
        if len(value) == 1:
            ((function, argument),) = value.items()
            if function == "Ref":
                return self._reference(argument, stack)
            if function.startswith("Fn::"):
                return self._call(function.removeprefix("Fn::"), argument, stack)
        return {key: self.value(item, stack) for key, item in value.items()}

    def arn(self, logical_id: str, stack: Stack) -> str:
        """Return the ARN of a resource. Raises KeyError for a type that policies do not name."""
        kind = stack.resources[logical_id]["Type"]
        path = stack.resources[logical_id].get("Properties", {}).get("Path", "/")
        filled = _ARNS[kind].format(
            account=stack.account,
            region=stack.region,
            name=self.name(logical_id, stack),
            path=path,
            id=uuid.uuid5(_ID, f"{stack.name}/{logical_id}"),
        )
        return f"arn:{PARTITION}:{filled}"

    def name(self, logical_id: str, stack: Stack) -> str:
        """Return the physical name: the one given, else as CloudFormation makes them."""
        resource = stack.resources[logical_id]
        given = resource.get("Properties", {}).get(_NAMED_BY.get(resource["Type"], ""))
        if given is not None:
            return self.value(given, stack)
        # Shorter than CloudFormation's: the evaluator's time grows with the length of names.
        made = f"{stack.name}-{zlib.crc32(logical_id.encode()):08x}"
        return made.lower() if resource["Type"] in ("AWS::S3::Bucket",) else made

    def _reference(self, name: str, stack: Stack) -> Any:
        pseudo = {
            "AWS::AccountId": stack.account,
            "AWS::Region": stack.region,
            "AWS::Partition": PARTITION,
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": stack.name,
            "AWS::StackId": stack_arn(stack),
            "AWS::NoValue": None,
        }
        if name in pseudo:
            return pseudo[name]
        if name in stack.template.get("Parameters", {}):
            return stack.template["Parameters"][name].get("Default", f"value-of-{name}")
        kind = stack.resources[name]["Type"]
        if kind == "AWS::SQS::Queue":
            return f"https://sqs.{stack.region}.amazonaws.com/{stack.account}/{self.name(name, stack)}"
        if kind == "AWS::KMS::Key":
            return self.arn(name, stack).rpartition("/")[2]
        return self.arn(name, stack) if kind in _REF_IS_ARN else self.name(name, stack)

    def _call(self, function: str, argument: Any, stack: Stack) -> Any:
        if function == "GetAtt":
            logical_id, _, attribute = (
                argument.partition(".") if isinstance(argument, str) else (argument[0], ".", argument[1])
            )
            return self._attribute(logical_id, attribute, stack)
        if function == "GetStackOutput":
            there = self._stacks[argument["StackName"]]
            return self.value(there.template["Outputs"][argument["OutputName"]]["Value"], there)
        if function == "If":
            # What stands behind a condition may be there: proven as if it were.
            return self.value(argument[1], stack)
        arguments = self.value(argument, stack)
        if function == "Join":
            return arguments[0].join(map(str, arguments[1]))
        if function == "Select":
            return arguments[1][int(arguments[0])]
        if function == "Split":
            return arguments[1].split(arguments[0])
        if function == "Sub":
            return self._substitute(arguments, stack)
        if function == "ToJsonString":
            return str(arguments)
        raise NotImplementedError(f"Fn::{function} in {stack.name}")

    def _attribute(self, logical_id: str, attribute: str, stack: Stack) -> Any:
        if attribute == "DnsEntries":
            return [f"Z0123456789:{logical_id.lower()}.vpce.amazonaws.com"]
        kind = stack.resources[logical_id]["Type"]
        if kind in _ARNS and attribute in ("Arn", "TopicArn", "DomainArn", "ServiceArn", "StateMachineArn"):
            return self.arn(logical_id, stack)
        if attribute in ("Name", "QueueName", "TopicName", "EndpointName", "ModelName"):
            return self.name(logical_id, stack)
        return f"{stack.name}.{logical_id}.{attribute}"

    def _substitute(self, arguments: Any, stack: Stack) -> str:
        text, values = arguments if isinstance(arguments, list) else (arguments, {})

        def filled(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            if name in values:
                return str(values[name])
            return str(self._call("GetAtt", name, stack) if "." in name else self._reference(name, stack))

        return re.sub(r"\$\{([^}]+)\}", filled, text)


def stack_arn(stack: Stack) -> str:
    unique = uuid.uuid5(_ID, stack.name)
    return f"arn:{PARTITION}:cloudformation:{stack.region}:{stack.account}:stack/{stack.name}/{unique}"
