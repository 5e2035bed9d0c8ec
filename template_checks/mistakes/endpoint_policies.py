"""10: what the S3 endpoint's policy lets through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from template_checks.conditions import STRANGER, Context
from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.networks import Endpoint
from template_checks.permissions import Request, endpoint_lets
from template_checks.policies import Statement, bucket_and_key, plain, statements
from template_checks.templates import Resource
from template_checks.values import Target, Value, at, flag, items
from template_checks.workloads import Calls, containers_of, model_addresses

_ANY_REGION = "${AWS::Region}"
_OBJECT_ACTIONS = ("s3:GetObject", "s3:PutObject")
_OF_AWS = Context(
    known={
        "aws:resourceaccount": (f"{STRANGER}AWS",),
        "s3:resourceaccount": (f"{STRANGER}AWS",),
        "aws:resourceorgid": (f"{STRANGER}AWS",),
        "aws:resourceorgpaths": (f"{STRANGER}AWS",),
        "aws:principalaccount": (f"{STRANGER}AWS",),
        "aws:principalarn": (f"{STRANGER}AWS",),
        "aws:principalorgid": (f"{STRANGER}AWS",),
        "aws:securetransport": ("true",),
        "s3:tlsversion": ("1.2",),
    },
    absent=("aws:principaltag/",),
)
"""A request for image layers: ECR signs the address, and AWS owns the bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """An access through the endpoint. ``role`` makes it; None: ECR does, on a bucket of AWS."""

    code: str
    what: str
    action: str
    resource: str
    subnets: tuple[Value, ...]
    role: Resource | None = None


def _check(deployment: Deployment) -> Iterator[Finding]:
    needs = [
        *_layers(deployment),
        *_model_data(deployment),
        *_capture(deployment),
        *_documents(deployment),
    ]
    for endpoint in deployment.vpcs.endpoints:
        document = endpoint.resource.properties.get("PolicyDocument")
        if endpoint.service == "s3" and document is not None:
            yield from _check_policy(deployment, endpoint, statements(document), needs)
        elif endpoint.service == "s3":
            yield passed(endpoint.resource, "s3-policy-layers")  # without a policy of its own it lets all


def _check_policy(
    deployment: Deployment, endpoint: Endpoint, policy: list[Statement], needs: list[_Need]
) -> Iterator[Finding]:
    for need in dict.fromkeys(needs):
        vpc = deployment.vpcs.vpc_of(need.subnets)
        if vpc is not None and vpc != endpoint.vpc:
            continue
        verdict = _lets(endpoint, policy, _in_region_of(policy, need))
        if verdict is True:
            yield passed(endpoint.resource, need.code)
            continue
        yield (refused if verdict is False else not_proven)(
            endpoint.resource,
            need.code,
            at="PolicyDocument",
            message=f"It does not let {need.action} through on {need.resource}, {need.what}.",
            mend=f"Add an Allow statement with {need.action} on {need.resource}"
            + (", without a condition on who owns the bucket: AWS does." if _is_foreign(need) else "."),
        )


def _in_region_of(policy: list[Statement], need: _Need) -> _Need:
    """Return a need in the region that a policy names, where neither templates nor facts tell another."""
    named = re.search(r"prod-([a-z0-9-]+)-starport", " ".join(one for s in policy for one in s.resources))
    if not _is_foreign(need) or named is None:
        return need
    return replace(need, resource=need.resource.replace(_ANY_REGION, named[1]))


def _is_foreign(need: _Need) -> bool:
    return need.code == "s3-policy-layers"


def _lets(endpoint: Endpoint, policy: list[Statement], need: _Need) -> bool | None:
    """Return whether a policy lets a need through; None where what is not known decides."""
    way = {
        "aws:sourcevpce": (plain(Target(endpoint.resource)),),
        "aws:sourcevpc": (plain(endpoint.resource.properties.get("VpcId")),),
    }
    if _is_foreign(need):
        known, absent = {**_OF_AWS.known, **way}, _OF_AWS.absent
    else:
        owner = (endpoint.resource.account,)
        known, absent = {"aws:resourceaccount": owner, "s3:resourceaccount": owner, **way}, ()
    request = Request(
        action=need.action, resources=(need.resource,), context=Context(known=known, absent=absent)
    )
    return endpoint_lets(policy, request, role=need.role)


def _layers(deployment: Deployment) -> Iterator[_Need]:
    """Yield what pulls images: tasks, and whatever an endpoint of ECR is there for."""
    pulling = [
        (task.definition, tuple(task.subnets))
        for task in deployment.workloads.tasks()
        if task.is_fargate and task.pulls_from_ecr
    ]
    pulling += [
        (endpoint.resource, tuple(items(endpoint.resource.properties.get("SubnetIds"))))
        for endpoint in deployment.vpcs.endpoints
        if endpoint.service == "ecr.dkr"
    ]
    for resource, subnets in pulling:
        region = resource.template.region or deployment.facts.region or _ANY_REGION
        yield _Need(
            code="s3-policy-layers",
            what="where ECR keeps the layers of images",
            action="s3:GetObject",
            resource=f"arn:aws:s3:::prod-{region}-starport-layer-bucket/*",
            subnets=subnets,
        )


def _model_data(deployment: Deployment) -> Iterator[_Need]:
    for model in deployment.workloads.models():
        subnets = items(at(model.properties.get("VpcConfig"), "Subnets"))
        for container in containers_of(model) if subnets else ():
            for address in model_addresses(container):
                bucket, key = bucket_and_key(address)
                yield _Need(
                    code="s3-policy-model",
                    what=f"which {model.logical_id} loads",
                    action="s3:GetObject",
                    resource=f"arn:aws:s3:::{bucket}/{key}{'*' if key.endswith('/') or not key else ''}",
                    subnets=tuple(subnets),
                    role=deployment.policies.role(model.properties.get("ExecutionRoleArn")),
                )


def _capture(deployment: Deployment) -> Iterator[_Need]:
    for config, variant in deployment.workloads.variants():
        capture = config.properties.get("DataCaptureConfig")
        model = deployment.workloads.model_of(variant)
        subnets = items(at(model.properties.get("VpcConfig"), "Subnets")) if model else []
        if model and subnets and flag(at(capture, "EnableCapture")):
            bucket, key = bucket_and_key(at(capture, "DestinationS3Uri"))
            yield _Need(
                code="s3-policy-capture",
                what=f"where {config.logical_id} captures to",
                action="s3:PutObject",
                resource=f"arn:aws:s3:::{bucket}/{key.rstrip('/') + '/' if key else ''}*",
                subnets=tuple(subnets),
                role=deployment.policies.role(model.properties.get("ExecutionRoleArn")),
            )


def _documents(deployment: Deployment) -> Iterator[_Need]:
    """Yield what the roles of tasks and functions in the VPC may do with objects: documents among them."""
    calls = Calls(deployment.templates, policies=deployment.policies, workloads=deployment.workloads)
    for caller, reference, subnets in calls.roles():
        role = deployment.policies.role(reference)
        for statement in deployment.policies.of_role(role) if role else ():
            for resource in statement.resources if statement.allows else ():
                for action in _OBJECT_ACTIONS:
                    if statement.names_action(action) and _is_objects(resource):
                        yield _Need(
                            code="s3-policy-documents",
                            what=f"which {caller.logical_id} may reach by its role",
                            action=action,
                            resource=resource,
                            subnets=subnets,
                            role=role,
                        )


def _is_objects(resource: str) -> bool:
    """Return whether a resource is the objects of one bucket."""
    bucket, slash, _ = resource.partition(":::")[2].partition("/")
    return bool(slash) and "*" not in bucket and resource.startswith("arn:") and plain(bucket) != ""


MISTAKES = (
    Mistake(
        number=10,
        title="An S3 endpoint policy that forgets the image layers, model, capture or document bucket",
        parts={
            "s3-policy-layers": "GetObject on prod-<region>-starport-layer-bucket, where ECR keeps layers",
            "s3-policy-model": "GetObject on what a model in the VPC loads",
            "s3-policy-capture": "PutObject where an endpoint's capture goes",
            "s3-policy-documents": "GetObject or PutObject that a role of a task or function in the VPC has",
        },
        why="Everything in the VPC reaches S3 through the endpoint, so its policy is asked beside the "
        "role's. Layers of images come from a bucket of AWS: without it every task fails to start.",
        mend="One Allow statement for each bucket that is used from the VPC, the layers' without a "
        "condition on its owner.",
        absent="no S3 endpoint",
        check=_check,
    ),
)
