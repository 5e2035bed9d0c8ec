"""The roles and stores of an account with several tenants, with their policies."""

from __future__ import annotations

import json
import re
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
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


Policy = Mapping[str, Any]
KINDS = {
    "AWS::DynamoDB::Table": "table",
    "AWS::KMS::Key": "key",
    "AWS::Lambda::Function": "function",
    "AWS::Logs::LogGroup": "log group",
    "AWS::OpenSearchService::Domain": "domain",
    "AWS::S3::Bucket": "bucket",
    "AWS::SNS::Topic": "topic",
    "AWS::SQS::Queue": "queue",
    "AWS::SageMaker::Endpoint": "endpoint",
    "AWS::SecretsManager::Secret": "secret",
    "AWS::StepFunctions::StateMachine": "state machine",
    "AWS::IAM::Role": "role",
}
SHARED = "shared"
"""Tag of what all tenants of an account use."""
PARAMETERS = ("document-links", "jwks", "live-read-pseudonyms", "power")
_OF_SYSTEMS = "(care-jwks|systems/[a-z0-9-]+)"
"""Parameters of tenants with live systems: who signs contexts, and each system's switch."""
_ATTACHED = {
    "AWS::S3::BucketPolicy": ("Bucket", "PolicyDocument"),
    "AWS::SQS::QueuePolicy": ("Queues", "PolicyDocument"),
    "AWS::SNS::TopicPolicy": ("Topics", "PolicyDocument"),
    "AWS::SecretsManager::ResourcePolicy": ("SecretId", "ResourcePolicy"),
}
"""Where such a policy names its stores, and where it is."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Role:
    tenant: str
    stack: str
    logical_id: str
    arn: str
    tags: Mapping[str, str]
    assumed_by: tuple[str, ...]
    policies: Mapping[str, Policy]
    boundary: str | None
    """ARN of the managed policy that bounds it."""

    def __str__(self) -> str:
        return f"{self.tenant}/{self.stack}/{self.logical_id}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Store:
    """Anything of a tenant that a policy may name."""

    tenant: str
    stack: str
    logical_id: str
    kind: str
    arn: str
    policy: Policy | None = None
    key: str | None = None
    """ARN of the key that encrypts it, which every caller must be let use."""

    def __str__(self) -> str:
        return f"{self.tenant}/{self.stack}/{self.logical_id}"


@dataclass(slots=True, kw_only=True)
class Account:
    """``endpoints`` has each tenant's VPC endpoint policies by service (``s3``)."""

    roles: list[Role] = field(default_factory=list[Role])
    stores: list[Store] = field(default_factory=list[Store])
    policies: dict[str, Policy] = field(default_factory=dict[str, Policy])
    """Managed policies by ARN."""
    endpoints: dict[str, dict[str, Policy]] = field(default_factory=dict[str, dict[str, Policy]])
    mapped: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """ARNs of the roles that each tenant's domain knows: its master, and those that the schema maps."""

    tasks: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict[str, list[Mapping[str, Any]]])
    """Of each tenant's task definition: the role that starts it, and images, logs and secrets."""
    captured: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Where each tenant's endpoints put captured calls, as ``s3://bucket/folder/``."""
    logged: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Names of the buckets that each tenant's buckets send their access logs to."""

    def of(self, tenant: str) -> tuple[list[Role], list[Store]]:
        return (
            [role for role in self.roles if role.tenant == tenant],
            [store for store in self.stores if store.tenant == tenant],
        )

    def store(self, tenant: str, logical_id: str) -> Store:
        """Return the tenant's store of a logical id."""
        return next(one for one in self.stores if (one.tenant, one.logical_id) == (tenant, logical_id))

    def role(self, tenant: str, name: str) -> Role:
        """Return the tenant's one role whose logical id begins with a name."""
        (found,) = [one for one in self.roles if one.tenant == tenant and one.logical_id.startswith(name)]
        return found

    def twin(self, store: Store, *, tenant: str) -> Store | None:
        """Return the other tenant's store of the same role; None where that tenant has none."""
        for other in self.stores:
            if (other.tenant, other.stack, other.logical_id) == (tenant, store.stack, store.logical_id):
                return other
        return None


def read_stacks(assembly: Path) -> Iterator[tuple[str, str, Stack]]:
    """Yield (tenant, short name, stack) of every stack of a ``cdk.out``; the tenant is its tag's value."""
    for manifest in sorted(assembly.glob("assembly-*/manifest.json")):
        artifacts = json.loads(manifest.read_text(encoding="utf-8"))["artifacts"]
        for artifact in artifacts.values():
            if artifact["type"] != "aws:cloudformation:stack":
                continue
            properties = artifact["properties"]
            _, account, region = artifact["environment"].replace("//", "/").split("/")
            template = json.loads((manifest.parent / properties["templateFile"]).read_text(encoding="utf-8"))
            short = artifact["displayName"].split(" ")[0].split("/")[1]
            stack = Stack(name=properties["stackName"], account=account, region=region, template=template)
            yield _tenant_of(stack), short, stack


def _tenant_of(stack: Stack) -> str:
    """Return the tag that every resource of the stack carries; an object of tags in some types."""
    for resource in stack.resources.values():
        tags = resource.get("Properties", {}).get("Tags", [])
        pairs = tags if isinstance(tags, Mapping) else {tag["Key"]: tag["Value"] for tag in tags}
        if "tenant" in pairs:
            return pairs["tenant"]
    raise LookupError(f"{stack.name}: no resource is tagged with a tenant.")


def read_account(*assemblies: Path) -> Account:
    """Return everything that the assemblies would deploy."""
    stacks = [entry for assembly in assemblies for entry in read_stacks(assembly)]
    reader = _Reader(stacks)
    return reader.account()


class _Reader:
    def __init__(self, stacks: list[tuple[str, str, Stack]]) -> None:
        self._stacks = stacks
        self._resolver = Resolver([stack for _, _, stack in stacks])
        self._attached = dict(self._attached_policies())

    def account(self) -> Account:
        account = Account(policies=dict(self._managed_policies()))
        for tenant, short, stack in self._stacks:
            for logical_id, resource in stack.resources.items():
                place = {"tenant": tenant, "stack": short, "logical_id": logical_id}
                if resource["Type"] == "AWS::IAM::Role":
                    account.roles.append(self._role(place, stack, account.policies))
                if resource["Type"] in KINDS:
                    account.stores.append(self._store(place, stack))
                if resource["Type"] == "AWS::EC2::VPCEndpoint":
                    has = self._properties(logical_id, stack)
                    if "PolicyDocument" not in has:
                        continue  # the way to a system of the company's, which takes no policy
                    service = has["ServiceName"].removeprefix(f"com.amazonaws.{stack.region}.")
                    account.endpoints.setdefault(tenant, {})[service] = _of_endpoint(has["PolicyDocument"])
            self._collect(account, tenant, stack)
            account.mapped.setdefault(tenant, set()).update(self._mapped_in(stack))
            account.stores.append(
                Store(tenant=tenant, stack=short, logical_id="(stack)", kind="stack", arn=stack_arn(stack))
            )
        account.stores[:0] = self._parameters(account)
        return account

    def _collect(self, account: Account, tenant: str, stack: Stack) -> None:
        for resource in stack.resources.values():
            match resource["Type"]:
                case "AWS::ECS::TaskDefinition":
                    task = resource["Properties"]
                    containers = [
                        {name: one[name] for name in ("Image", "LogConfiguration", "Secrets") if name in one}
                        for one in task["ContainerDefinitions"]
                    ]
                    named = {"ExecutionRoleArn": task["ExecutionRoleArn"], "ContainerDefinitions": containers}
                    account.tasks.setdefault(tenant, []).append(self._resolver.value(named, stack))
                case "AWS::SageMaker::EndpointConfig":
                    config = self._resolver.value(resource["Properties"].get("DataCaptureConfig"), stack)
                    if config:
                        account.captured.setdefault(tenant, set()).add(config["DestinationS3Uri"])
                case "AWS::S3::Bucket":
                    logs = resource["Properties"].get("LoggingConfiguration", {}).get("DestinationBucketName")
                    if logs:
                        account.logged.setdefault(tenant, set()).add(self._resolver.value(logs, stack))
                case _:
                    pass

    def _mapped_in(self, stack: Stack) -> Iterator[str]:
        for logical_id, resource in stack.resources.items():
            if resource["Type"] == "Custom::SearchAccess":
                yield from self._properties(logical_id, stack)["RoleArns"]
            if resource["Type"] == "AWS::OpenSearchService::Domain":
                security = self._properties(logical_id, stack)["AdvancedSecurityOptions"]
                yield security["MasterUserOptions"]["MasterUserARN"]

    def _parameters(self, account: Account) -> Iterator[Store]:
        """Yield the parameters that belong to no stack; a tenant's roles say which of live systems it has."""
        for tenant, stack in {tenant: stack for tenant, _, stack in self._stacks if tenant != SHARED}.items():
            policies = json.dumps([role.policies for role in account.of(tenant)[0]])
            of_systems = re.findall(f'/{tenant}/{_OF_SYSTEMS}"', policies)
            for parameter in (*PARAMETERS, *sorted(set(of_systems))):
                path = f"{stack.name.partition('-')[0]}/{tenant}/{parameter}"
                arn = f"arn:aws:ssm:{stack.region}:{stack.account}:parameter/{path}"
                yield Store(tenant=tenant, stack="", logical_id=parameter, kind="parameter", arn=arn)

    def _properties(self, logical_id: str, stack: Stack) -> dict[str, Any]:
        return self._resolver.value(stack.resources[logical_id].get("Properties", {}), stack)

    def _managed_policies(self) -> Iterator[tuple[str, Policy]]:
        for _, _, stack in self._stacks:
            for logical_id, resource in stack.resources.items():
                if resource["Type"] == "AWS::IAM::ManagedPolicy":
                    document = self._properties(logical_id, stack)["PolicyDocument"]
                    yield self._resolver.arn(logical_id, stack), document

    def _attached_policies(self) -> Iterator[tuple[str, Policy]]:
        """Yield (ARN or name of what has it, policy) of policies that are resources of their own."""
        for _, _, stack in self._stacks:
            for logical_id, resource in stack.resources.items():
                if resource["Type"] in _ATTACHED:
                    target, document = _ATTACHED[resource["Type"]]
                    has = self._properties(logical_id, stack)
                    for place in listed(has[target]):
                        yield place, has[document]

    def _role(self, place: dict[str, str], stack: Stack, managed: Mapping[str, Policy]) -> Role:
        has = self._properties(place["logical_id"], stack)
        name = self._resolver.name(place["logical_id"], stack)
        policies = {entry["PolicyName"]: entry["PolicyDocument"] for entry in has.get("Policies", [])}
        policies |= {arn: managed[arn] for arn in has.get("ManagedPolicyArns", [])}
        policies |= dict(self._attached_to(name))
        trusted = [
            service
            for statement in has["AssumeRolePolicyDocument"]["Statement"]
            for service in listed(statement["Principal"].get("Service", []))
        ]
        return Role(
            **place,
            arn=self._resolver.arn(place["logical_id"], stack),
            tags={tag["Key"]: tag["Value"] for tag in has.get("Tags", [])},
            assumed_by=tuple(trusted),
            policies=policies,
            boundary=has.get("PermissionsBoundary"),
        )

    def _attached_to(self, role_name: str) -> Iterator[tuple[str, Policy]]:
        for _, _, stack in self._stacks:
            for logical_id, resource in stack.resources.items():
                if resource["Type"] in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
                    has = self._properties(logical_id, stack)
                    if role_name in has.get("Roles", []):
                        yield f"{stack.name}/{logical_id}", has["PolicyDocument"]

    def _store(self, place: dict[str, str], stack: Stack) -> Store:
        logical_id = place["logical_id"]
        has = self._properties(logical_id, stack)
        kind = KINDS[stack.resources[logical_id]["Type"]]
        attached = self._attached.get(self._resolver.value({"Ref": logical_id}, stack))
        own = {"key": "KeyPolicy", "domain": "AccessPolicies", "role": "AssumeRolePolicyDocument"}.get(kind)
        return Store(
            **place,
            kind=kind,
            arn=self._resolver.arn(logical_id, stack).removesuffix(":*"),
            policy=has[own] if own else attached,
            key=_key_of(kind, has),
        )


def _of_endpoint(policy: Policy) -> Policy:
    """Return the policy with the principal ``*``: the evaluator does not know ``{"AWS": "*"}``."""
    statements = [
        {**statement, "Principal": "*"} if statement["Principal"] == {"AWS": "*"} else statement
        for statement in policy["Statement"]
    ]
    return {**policy, "Statement": statements}


def _key_of(kind: str, has: Mapping[str, Any]) -> str | None:
    if kind == "bucket":
        if "BucketEncryption" not in has:
            return None  # S3's own key, where a template names none
        rules = has["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        return rules[0]["ServerSideEncryptionByDefault"].get("KMSMasterKeyID")
    if kind == "table":
        return has["SSESpecification"]["KMSMasterKeyId"]
    if kind == "secret":
        return has["KmsKeyId"]
    if kind in ("queue", "topic"):
        return has["KmsMasterKeyId"]
    if kind == "log group":
        return has["KmsKeyId"]
    return None


def without(policy: Policy, **dropped: Any) -> Policy:
    """Return the policy without the statements of ``sids``, and without the conditions of ``conditions``."""
    statements = [
        {key: value for key, value in statement.items() if key != "Condition"}
        if statement.get("Sid") in dropped.get("conditions", ())
        else statement
        for statement in policy["Statement"]
        if statement.get("Sid") not in dropped.get("sids", ())
    ]
    return {**policy, "Statement": statements}


def change_store(account: Account, store: Store, policy: Policy) -> None:
    account.stores[account.stores.index(store)] = replace(store, policy=policy)


def change_role(account: Account, role: Role, **fields: Any) -> Role:
    changed = replace(role, **fields)
    account.roles[account.roles.index(role)] = changed
    return changed


def narrow(account: Account, *, roles: tuple[str, ...], stacks: tuple[str, ...]) -> None:
    """Keep only the roles and stores of a mutation; other tests evaluate the whole account."""
    account.roles[:] = [role for role in account.roles if any(name in role.logical_id for name in roles)]
    account.stores[:] = [store for store in account.stores if store.stack in stacks]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
