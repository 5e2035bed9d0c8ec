"""9, 10 and 21: endpoints of a closed VPC, what the S3 endpoint's policy allows, and functions outside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from template_checks.conditions import STRANGER, Context
from template_checks.findings import Deployment, Finding, judge, not_proven, passed, refused
from template_checks.networks import Endpoint
from template_checks.permissions import Request, endpoint_allows
from template_checks.policies import Statement, bucket_and_key, objects_in, plain, statements
from template_checks.templates import Resource
from template_checks.values import Target, Value, at, flag, items, targets, text
from template_checks.workloads import FUNCTIONS, Call, containers_of, model_addresses, subnets_of_model

# --- 9: endpoints -----------------------------------------------------------------------------------------
_GATEWAYS = ("s3", "dynamodb")
_HOSTS = {
    "ecr.api": "api.ecr.",
    "ecr.dkr": "dkr.ecr.",
    "sagemaker.runtime": "runtime.sagemaker.",
    "sagemaker.api": "api.sagemaker.",
    "kinesis-streams": "kinesis.",
    "kinesis-firehose": "firehose.",
}
"""Beginning of a service's host name, if it is not the endpoint's service and a dot."""


def _check_endpoints(deployment: Deployment) -> Iterator[Finding]:
    calls, vpcs = deployment.calls, deployment.vpcs
    checked: set[tuple[str, object]] = set()
    for call in [*calls.of_tasks(), *calls.of_functions()]:
        place = (call.service, vpcs.vpc_of(call.subnets))
        if place not in checked and vpcs.is_closed(call.subnets) is not False:
            checked.add(place)
            yield _check_call(deployment, call)
    for caller, role, subnets in calls.roles():
        if deployment.policies.role(role) is None and vpcs.is_closed(subnets) is not False:
            yield not_proven(
                caller,
                "missing-endpoint",
                at="TaskRoleArn" if "TaskRoleArn" in caller.properties else "Role",
                message=f"Its calls are unknown: its role, {text(role)}, is not in the templates.",
                fix="Add the role's template to the same check.",
            )
    for endpoint in vpcs.endpoints:
        if endpoint.is_interface and endpoint.service not in _GATEWAYS:
            yield _check_names(deployment, endpoint)


def _check_call(deployment: Deployment, call: Call) -> Finding:
    vpcs = deployment.vpcs
    found = vpcs.endpoints_of(call.service, vpcs.vpc_of(call.subnets))
    if call.service in deployment.facts.existing_endpoints:
        return passed(call.caller, "missing-endpoint")
    if not found:
        kind = "Interface, PrivateDnsEnabled: true"
        if call.service in _GATEWAYS:
            kind = "Gateway, with the subnets' route tables"
        return judge(
            False if vpcs.is_closed(call.subnets) is True or vpcs.endpoints else None,
            call.caller,
            "missing-endpoint",
            at="NetworkConfiguration" if call.caller.type.startswith("AWS::ECS") else "VpcConfig",
            message=f"It calls {call.service} {call.because} from a VPC without a route to the internet, and "
            "the VPC has no endpoint for it.",
            fix=f"Add an AWS::EC2::VPCEndpoint for com.amazonaws.<region>.{call.service} ({kind}), or name "
            "it under existing_endpoints in the facts.",
        )
    return judge(
        None if all(endpoint.is_of_own_region is None for endpoint in found) else True,
        found[0].resource,
        "missing-endpoint",
        at="ServiceName",
        message=f"It leads to {call.service} of {found[0].region}, and the region of the stack is unknown.",
        fix="Write com.amazonaws.${AWS::Region}, or give the region in the facts: region.",
    )


def _check_names(deployment: Deployment, endpoint: Endpoint) -> Finding:
    """Check that the service's own name resolves to its endpoint."""
    vpcs = deployment.vpcs
    if endpoint.has_private_dns is True:
        return _check_vpc_attributes(endpoint)
    others = vpcs.endpoints_of(endpoint.service, endpoint.vpc)
    host = _HOSTS.get(endpoint.service, f"{endpoint.service}.")
    is_resolved = any(other.has_private_dns is True for other in others) or vpcs.has_private_zone(host)
    return judge(
        is_resolved or endpoint.has_private_dns,
        endpoint.resource,
        "endpoint-private-dns",
        at="PrivateDnsEnabled",
        message=f"Without private DNS, the own name of {endpoint.service} resolves to an address outside the "
        "VPC. CloudFormation's default is off.",
        fix="Set PrivateDnsEnabled: true.",
    )


def _check_vpc_attributes(endpoint: Endpoint) -> Finding:
    vpc = endpoint.resource.properties.get("VpcId")
    if isinstance(vpc, Target) and vpc.resource.type == "AWS::EC2::VPC":
        own = vpc.resource.properties
        hostnames, support = own.get("EnableDnsHostnames"), own.get("EnableDnsSupport")
        if (hostnames is None or flag(hostnames) is False) or flag(support) is False:
            return refused(
                vpc.resource,
                "endpoint-private-dns",
                at="EnableDnsHostnames" if flag(support) is not False else "EnableDnsSupport",
                message="Private DNS of its interface endpoints needs both attributes of the VPC.",
                fix="Set EnableDnsHostnames: true and EnableDnsSupport: true.",
            )
    return passed(endpoint.resource, "endpoint-private-dns")


# --- 10: the policy of the S3 endpoint --------------------------------------------------------------------
_ANY_REGION = "${AWS::Region}"
_LAYERS = "s3-policy-layers"
_AWS = (f"{STRANGER}AWS",)
_BY_AWS = {
    "aws:resourceaccount": _AWS,
    "s3:resourceaccount": _AWS,
    "aws:resourceorgid": _AWS,
    "aws:resourceorgpaths": _AWS,
    "aws:principalaccount": _AWS,
    "aws:principalarn": _AWS,
    "aws:principalorgid": _AWS,
    "aws:securetransport": ("true",),
    "s3:tlsversion": ("1.2",),
}
"""A request for image layers: ECR signs the address, and AWS owns the bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """An access through the endpoint by ``role``; by ECR, on a bucket of AWS, if that is None."""

    code: str
    what: str
    action: str
    resource: str
    subnets: tuple[Value, ...]
    role: Resource | None = None


def _check_s3_policies(deployment: Deployment) -> Iterator[Finding]:
    needs = [*_layers(deployment), *_model_data(deployment), *_capture(deployment), *_documents(deployment)]
    for endpoint in deployment.vpcs.endpoints:
        document = endpoint.resource.properties.get("PolicyDocument")
        if endpoint.service == "s3" and document is None:
            yield passed(endpoint.resource, _LAYERS)  # an endpoint without a policy allows everything
        elif endpoint.service == "s3":
            for need in dict.fromkeys(needs):
                vpc = deployment.vpcs.vpc_of(need.subnets)
                if vpc is None or vpc == endpoint.vpc:
                    yield _check_need(endpoint, statements(document), need)


def _check_need(endpoint: Endpoint, policy: list[Statement], need: _Need) -> Finding:
    is_of_aws = need.code == _LAYERS
    named = re.search(r"prod-([a-z0-9-]+)-starport", " ".join(one for s in policy for one in s.resources))
    if is_of_aws and named is not None:  # the policy's region, if neither templates nor facts give another
        need = replace(need, resource=need.resource.replace(_ANY_REGION, named[1]))
    owner = (endpoint.resource.account,)
    known = _BY_AWS if is_of_aws else {"aws:resourceaccount": owner, "s3:resourceaccount": owner}
    context = Context(
        known={
            **known,
            "aws:sourcevpce": (plain(Target(endpoint.resource)),),
            "aws:sourcevpc": (plain(endpoint.resource.properties.get("VpcId")),),
        },
        absent=("aws:principaltag/",) if is_of_aws else (),
    )
    request = Request(action=need.action, resources=(need.resource,), context=context)
    return judge(
        endpoint_allows(policy, request, role=need.role),
        endpoint.resource,
        need.code,
        at="PolicyDocument",
        message=f"It does not allow {need.action} on {need.resource}, {need.what}.",
        fix=f"Add an Allow statement with {need.action} on {need.resource}"
        + (", without a condition on the bucket's owner: that is AWS." if is_of_aws else "."),
    )


def _layers(deployment: Deployment) -> Iterator[_Need]:
    """Yield what pulls images: tasks, and whatever an endpoint of ECR exists for."""
    pulling = [
        (task.definition, task.subnets)
        for task in deployment.workloads.tasks()
        if task.is_fargate and task.pulls_from_ecr
    ]
    pulling += [
        (endpoint.resource, items(endpoint.resource.properties.get("SubnetIds")))
        for endpoint in deployment.vpcs.endpoints
        if endpoint.service == "ecr.dkr"
    ]
    for resource, subnets in pulling:
        region = resource.template.region or deployment.facts.region or _ANY_REGION
        yield _Need(
            code=_LAYERS,
            what="where ECR keeps the layers of images",
            action="s3:GetObject",
            resource=f"arn:aws:s3:::prod-{region}-starport-layer-bucket/*",
            subnets=tuple(subnets),
        )


def _model_data(deployment: Deployment) -> Iterator[_Need]:
    for model in deployment.workloads.models():
        subnets = subnets_of_model(model)
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
        if model and subnets_of_model(model) and flag(at(capture, "EnableCapture")):
            yield _Need(
                code="s3-policy-capture",
                what=f"where {config.logical_id} captures to",
                action="s3:PutObject",
                resource=objects_in(*bucket_and_key(at(capture, "DestinationS3Uri"))),
                subnets=tuple(subnets_of_model(model)),
                role=deployment.policies.role(model.properties.get("ExecutionRoleArn")),
            )


def _documents(deployment: Deployment) -> Iterator[_Need]:
    """Yield what the roles of tasks and functions in the VPC may do with objects, documents among them."""
    for caller, reference, subnets in deployment.calls.roles():
        role = deployment.policies.role(reference)
        allowing = [one for one in deployment.policies.of_role(role) if one.allows] if role else []
        for statement in allowing:
            for resource in filter(_is_objects, statement.resources):
                for action in ("s3:GetObject", "s3:PutObject"):
                    if statement.names_action(action):
                        yield _Need(
                            code="s3-policy-documents",
                            what=f"which {caller.logical_id} may reach with its role",
                            action=action,
                            resource=resource,
                            subnets=subnets,
                            role=role,
                        )


def _is_objects(resource: str) -> bool:
    """Return whether a resource is the objects of one bucket."""
    bucket, slash, _ = resource.partition(":::")[2].partition("/")
    return bool(slash) and "*" not in bucket and resource.startswith("arn:") and bool(bucket)


# --- 21: functions outside the VPC ------------------------------------------------------------------------
_BY_PROPERTIES = "Set what it does through the resource's own properties."
_HELPERS = {
    "Custom::AWS": _BY_PROPERTIES,
    "Custom::CDKBucketDeployment": _BY_PROPERTIES,
    "Custom::CloudwatchLogResourcePolicy": "Make one AWS::Logs::ResourcePolicy for all domains.",
    "Custom::LogRetention": "Make the log group yourself, with RetentionInDays.",
    "Custom::OpenSearchAccessPolicy": "Set AccessPolicies on the domain itself.",
    "Custom::S3AutoDeleteObjects": "Remove auto-delete: empty the bucket by hand before it is deleted.",
    "Custom::S3BucketNotifications": "Set NotificationConfiguration on the bucket itself.",
    "Custom::VpcRestrictDefaultSG": _BY_PROPERTIES,
}
"""Custom resources for which CDK adds a function of its own = what to use instead."""


def _check_functions(deployment: Deployment) -> Iterator[Finding]:
    helpers = deployment.templates.of(*_HELPERS)
    behind: dict[Resource, Resource] = {}
    for helper in helpers:
        for target in targets(helper.properties.get("ServiceToken")):
            behind.setdefault(target.resource, helper)
    for function in deployment.templates.of(*FUNCTIONS):
        if deployment.workloads.functions_subnets(function):
            yield passed(function, "function-outside-vpc")
        else:
            yield _outside(function, behind=behind.get(function))
    for helper in helpers:
        token = helper.properties.get("ServiceToken")
        if not targets(token):
            message = f"The network of its function {text(token)} is unknown."
            yield not_proven(
                helper, "helper-outside-vpc", at="ServiceToken", message=message, fix=_HELPERS[helper.type]
            )


def _outside(function: Resource, *, behind: Resource | None) -> Finding:
    if behind is None:
        message = "It runs outside the VPC: no endpoint policy, flow log or security group applies to it."
        fix = "Set VpcConfig with subnets and a security group."
        return refused(function, "function-outside-vpc", at="VpcConfig", message=message, fix=fix)
    message = (
        f"CDK added it for {behind.type} ({behind.logical_id}). It runs outside the VPC with "
        "permissions on what is inside."
    )
    return refused(function, "helper-outside-vpc", at="VpcConfig", message=message, fix=_HELPERS[behind.type])


CHECKS = {9: _check_endpoints, 10: _check_s3_policies, 21: _check_functions}
