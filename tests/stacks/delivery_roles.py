"""The workflow that delivers a tenant, the roles that deliver, diff and operate it, and the calls of our
commands as requests to IAM."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tests.stacks.rights.model import Policy, Store, read_account
from tests.stacks.rights.requests import Request, judge
from tests.stacks.synthesized import ROOT
from tests.stage.aws_calls import Call

REGION = "us-east-1"
GITHUB_ROLES = ROOT / ".github" / "deploy-roles.yaml"
WORKFLOW = ROOT / ".github" / "workflows" / "deliver.yml"
OF_ACCOUNT = WORKFLOW.with_name("deliver-account.yml")
"""What it calls for the tenants of an account."""
JOBS: dict[str, dict[str, Any]] = {
    name: job
    for file in (WORKFLOW, OF_ACCOUNT)
    for name, job in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].items()
}
OPERATOR = ROOT / "docs" / "operator-policy.yaml"
UNTAGGED = ("DiffRole", "Operates", "Publishes", "Destroys")
"""Roles, and policies of roles, without the tag of a tenant."""
NONE: tuple[Policy, ...] = ({"Version": "2012-10-17", "Statement": []},)
"""The policies of a role that may nothing."""


class _Template(yaml.SafeLoader):
    """CloudFormation's short tags, each as its value."""


def _value(loader: yaml.SafeLoader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    assert isinstance(node, yaml.SequenceNode)
    return loader.construct_sequence(node, deep=True)


_Template.add_multi_constructor("!", _value)


def read_template(file: Path) -> dict[str, Any]:
    """Return a template whose references are left as ``${Name}``."""
    return yaml.load(file.read_text(encoding="utf-8"), Loader=_Template)  # noqa: S506


def policies_of(
    file: Path, resource: str, *, tenant: str, account: str, **parameters: str
) -> tuple[Policy, ...]:
    """Return the policies of a role, or a managed policy, as deployed for a tenant of the default prefix.
    ``parameters``: of the template, in place of its defaults."""
    template = read_template(file)
    values = {name: str(each.get("Default", "")) for name, each in template["Parameters"].items()}
    values |= {"Tenant": tenant, "StackPrefix": f"assistant-{tenant}", **parameters}
    values |= {"AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": account}
    values |= {"AWS::URLSuffix": "amazonaws.com"}
    properties = template["Resources"][resource]["Properties"]
    documents = [each["PolicyDocument"] for each in properties.get("Policies", [properties])]
    text = re.sub(r"\$\{([\w:]+)\}", lambda found: values[found[1]], json.dumps(documents))
    return tuple(json.loads(text.replace('"Tenant"', f'"{tenant}"')))


_ACTIONS: Mapping[str, tuple[str, ...]] = {
    "lambda:Invoke": ("lambda:InvokeFunction",),
    "s3:DeleteObjects": ("s3:DeleteObject", "s3:DeleteObjectVersion"),
    "s3:GetBucketEncryption": ("s3:GetEncryptionConfiguration",),
    "s3:GetObjectLockConfiguration": ("s3:GetBucketObjectLockConfiguration",),
    "s3:HeadBucket": ("s3:ListBucket",),
    "s3:ListBuckets": ("s3:ListAllMyBuckets",),
    "s3:ListObjectVersions": ("s3:ListBucketVersions",),
    "s3:ListObjectsV2": ("s3:ListBucket",),
    "scheduler:CreateSchedule": ("scheduler:CreateSchedule", "iam:PassRole"),
    "tagging:GetResources": ("tag:GetResources",),
}
"""Actions whose names are not those of the calls."""
_SAGEMAKER = {
    "Endpoint": "endpoint",
    "EndpointConfig": "endpoint-config",
    "Model": "model",
    "TrainingJob": "training-job",
}
_OBJECTS = frozenset(
    {"s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"}
)
_RESOURCES: Mapping[str, tuple[str, str]] = {
    "backup": ("BackupVaultName", "backup-vault:{}"),
    "cloudformation": ("StackName", "stack/{}/1"),
    "dynamodb": ("TableName", "table/{}"),
    "ecr": ("repositoryName", "repository/{}"),
    "es": ("DomainName", "domain/{}"),
    "kms": ("KeyId", "key/{}"),
    "lambda": ("FunctionName", "function:{}"),
    "logs": ("logGroupName", "log-group:{}"),
    "sagemaker": ("EndpointName", "endpoint/{}"),
    "secretsmanager": ("SecretId", "secret:{}"),
    "ssm": ("Name", "parameter/{}"),
}
"""By service: the argument that names the resource, and how its ARN ends."""


def requests_of(
    call: Call,
    *,
    policies: tuple[Policy, ...],
    tenant: str,
    account: str,
    key: Store,
    is_tagged: bool,
    owner: str | None = None,
) -> Iterator[Request]:
    """Yield what IAM is asked for one call, by a role with these policies.

    ``owner``: the tenant whose things the call names, which have its tag; by default the role's.
    """
    name = f"{call.service}:{call.operation}"
    for action in _ACTIONS.get(name, (name,)):
        for resource in _resources(call, action, account=account):
            context = {"aws:ResourceTag/tenant": owner or tenant}
            context |= {"aws:ResourceAccount": account, "aws:PrincipalAccount": account}
            context |= {"aws:PrincipalTag/tenant": tenant} if is_tagged else {}
            context |= {"iam:PassedToService": f"{call.service}.amazonaws.com"} if ":Pass" in action else {}
            if action in ("dynamodb:GetItem", "dynamodb:PutItem"):
                row = call.given.get("Key") or call.given["Item"]
                context["dynamodb:LeadingKeys"] = next(iter(row["pk"].values()))
            key_policy = key.policy if call.service == "kms" else None
            yield _request(
                action, resource, context, policies=policies, account=account, resource_policy=key_policy
            )
            if action in ("dynamodb:GetItem", "dynamodb:PutItem"):
                # DynamoDB opens the table's key in the caller's name (encryption.usagenotes).
                through = {"kms:ViaService": f"dynamodb.{REGION}.amazonaws.com"} | context
                yield _request(
                    "kms:Decrypt",
                    key.arn,
                    through,
                    policies=policies,
                    account=account,
                    resource_policy=key.policy,
                )


def _request(
    action: str,
    resource: str,
    context: Mapping[str, str],
    *,
    policies: tuple[Policy, ...],
    account: str,
    resource_policy: Policy | None,
) -> Request:
    return Request(
        principal=f"arn:aws:iam::{account}:role/delivers",
        action=action,
        resource=resource,
        account=account,
        context=context,
        identity=policies,
        resource_policy=resource_policy,
    )


def _resources(call: Call, action: str, *, account: str) -> list[str]:
    given, service = call.given, call.service
    if action == "iam:PassRole":
        return [given["Target"]["RoleArn"]]
    if service == "states":
        return [given["stateMachineArn"]]
    if service == "scheduler":
        return [_arn(service, f"schedule/default/{given['Name']}", account)]
    if service == "sagemaker" and (kind := re.match(r"(?:Describe|Delete)(\w+)", call.operation)):
        name = given.get(f"{kind[1]}Name")
        return [_arn(service, f"{_SAGEMAKER[kind[1]]}/{name}", account)]
    if action == "sts:AssumeRole":
        return [given["RoleArn"]]
    if action == "iam:GetRole":
        return [f"arn:aws:iam::{account}:role/{given['RoleName']}"]
    if action == "iam:GetUser":
        return [f"arn:aws:iam::{account}:user/{given['UserName']}"]
    if action == "acm:DescribeCertificate":
        return [given["CertificateArn"]]
    if service == "s3":
        bucket = given.get("Bucket")
        key = f"/{given.get('Key', 'any')}" if action in _OBJECTS else ""
        return [f"arn:aws:s3:::{bucket}{key}" if bucket else "*"]
    if service == "elasticloadbalancing" and "LoadBalancerArn" in given:
        return [given["LoadBalancerArn"]]
    if action == "ec2:RejectVpcEndpointConnections":
        return [f"arn:aws:ec2:{REGION}:{account}:vpc-endpoint-service/{given['ServiceId']}"]
    if action == "ssm:DeleteParameters":
        return [_arn(service, f"parameter{name}", account) for name in given["Names"]]
    if action == "dynamodb:RestoreTableToPointInTime":
        return [
            _arn(service, f"table/{given[name]}", account) for name in ("SourceTableName", "TargetTableName")
        ]
    if action == "dynamodb:BatchGetItem":
        return [_arn(service, f"table/{name}", account) for name in given["RequestItems"]]
    if action == "dynamodb:TagResource":
        return [given["ResourceArn"]]
    argument, ending = _RESOURCES.get(service, ("", ""))
    named = given.get(argument)
    if not named:
        return ["*"]
    if str(named).startswith("arn:"):
        return [named]
    return [_arn(service, ending.format(str(named).removeprefix("/")), account)]


def _arn(service: str, ending: str, account: str) -> str:
    return f"arn:aws:{service}:{REGION}:{account}:{ending}"


def data_key(assembly: Path, tenant: str) -> Store:
    """Return the key of a tenant's tables, whose policy all its keys have in what roles are asked."""
    stores = read_account(assembly).stores
    (key,) = [one for one in stores if one.tenant == tenant and one.logical_id.startswith("DataKey")]
    return key


NEIGHBOUR = "neighbour"
"""A second tenant of the account."""
OF_ALL: Mapping[str, str] = {
    r"\S+ \S+[:/]cdk-hnb659fds-": "a bootstrap that tenants share: doctor fails where one of them is hipaa's",
    r"ssm:GetParameter \S+:parameter/cdk-bootstrap/hnb659fds/": "likewise",
    r"cloudformation:DescribeStacks \S+:stack/CDKToolkit": "the bootstrap's version and names; no secret",
    r"s3:\S+ \S+:::jumpstart-cache-prod-": "AWS's own",
    r"iam:Get(Role|User) ": "whether a role or user is there that a policy shall trust; no secret",
    r"cloudformation:DescribeStacks \S+/assistant-account-Account/": "the account stage's version",
    r"ecr:DescribeImages ": "images are the account's",
    r"acm:DescribeCertificate ": "a certificate's name is an id, and what it says is public",
}
"""Pattern of action and resource = why a role may ask it of a neighbour too."""


def _of_neighbour(value: Any, tenant: str) -> Any:
    """Return a call's arguments, or a policy, with the neighbour's name where the tenant's stands."""
    return json.loads(json.dumps(value, default=str).replace(tenant, NEIGHBOUR))


def refused(
    calls: Iterable[Call],
    *,
    policies: tuple[Policy, ...],
    tenant: str,
    account: str,
    key: Store,
    is_tagged: bool = True,
) -> list[str]:
    """Return the calls that a role may not make, and those that it may make with a neighbour's names and tag
    in place of its tenant's. Each once: action, resource and the judgement.

    ``key``: of the tenant's tables; ``is_tagged``: whether the role has the tenant's tag.
    """
    made = [call for call in calls if call.operation != "GetCallerIdentity"]  # IAM refuses it to no identity
    theirs = [replace(call, given=_of_neighbour(call.given, tenant)) for call in made]
    other = replace(key, arn=_of_neighbour(key.arn, tenant), policy=_of_neighbour(key.policy, tenant))
    by_role = {"policies": policies, "tenant": tenant, "account": account, "is_tagged": is_tagged}
    own = {(one.action, one.resource): one for call in made for one in requests_of(call, key=key, **by_role)}
    crossing = {
        (one.action, one.resource): one
        for call in theirs
        for one in requests_of(call, key=other, owner=NEIGHBOUR, **by_role)
        if one.resource != "*" and not any(re.match(row, f"{one.action} {one.resource}") for row in OF_ALL)
    }
    judged = judge([*own.values(), *crossing.values()])
    return sorted(
        f"{one.request.action} {one.request.resource}: {one.result}"
        for number, one in enumerate(judged)
        if one.is_allowed != (number < len(own))
    )
