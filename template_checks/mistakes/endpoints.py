"""9: endpoints of the services that a closed VPC's workloads call."""

from __future__ import annotations

from collections.abc import Iterator

from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.networks import Endpoint
from template_checks.values import Target, flag, text
from template_checks.workloads import Call, Calls

_GATEWAYS = ("s3", "dynamodb")
_HOSTS = {
    "ecr.api": "api.ecr.",
    "ecr.dkr": "dkr.ecr.",
    "sagemaker.runtime": "runtime.sagemaker.",
    "sagemaker.api": "api.sagemaker.",
    "kinesis-streams": "kinesis.",
    "kinesis-firehose": "firehose.",
}
"""How a service's host name begins where that is not the endpoint's service and a dot."""


def _check(deployment: Deployment) -> Iterator[Finding]:
    calls = Calls(deployment.templates, policies=deployment.policies, workloads=deployment.workloads)
    looked_at: set[tuple[str, object]] = set()
    for call in [*calls.of_tasks(), *calls.of_functions()]:
        vpc = deployment.vpcs.vpc_of(call.subnets)
        if (call.service, vpc) in looked_at or deployment.vpcs.is_closed(call.subnets) is False:
            continue
        looked_at.add((call.service, vpc))
        yield from _check_call(deployment, call)
    for caller, role, subnets in calls.roles():
        if deployment.policies.role(role) is None and deployment.vpcs.is_closed(subnets) is not False:
            yield not_proven(
                caller,
                "missing-endpoint",
                at="TaskRoleArn" if "TaskRoleArn" in caller.properties else "Role",
                message=f"What it calls is not told: its role, {text(role)}, is not in the templates.",
                mend="Give the role's template to the same check.",
            )
    for endpoint in deployment.vpcs.endpoints:
        if endpoint.is_interface and endpoint.service not in _GATEWAYS:
            yield _check_names(deployment, endpoint)


def _check_call(deployment: Deployment, call: Call) -> Iterator[Finding]:
    vpcs = deployment.vpcs
    found = vpcs.of_service(call.service, vpcs.vpc_of(call.subnets))
    if call.service in deployment.facts.existing_endpoints:
        yield passed(call.caller, "missing-endpoint")
    elif not found:
        is_told = vpcs.is_closed(call.subnets) is True or bool(vpcs.endpoints)
        yield (refused if is_told else not_proven)(
            call.caller,
            "missing-endpoint",
            at="NetworkConfiguration" if call.caller.type.startswith("AWS::ECS") else "VpcConfig",
            message=f"It calls {call.service} {call.because} from a VPC without a way to the internet, and "
            "the VPC has no endpoint for it.",
            mend=f"Add an AWS::EC2::VPCEndpoint for com.amazonaws.<region>.{call.service} "
            + ("(Gateway, with the subnets' route tables)" if call.service in _GATEWAYS else _INTERFACE)
            + ", or name it under existing_endpoints in the facts.",
        )
    elif all(endpoint.is_of_own_region is None for endpoint in found):
        yield not_proven(
            found[0].resource,
            "missing-endpoint",
            at="ServiceName",
            message=f"It leads to {call.service} of {found[0].region}, and whether the stack is made there "
            "is not told.",
            mend="Write com.amazonaws.${AWS::Region}, or say the region in the facts: region.",
        )
    else:
        yield passed(found[0].resource, "missing-endpoint")


_INTERFACE = "(Interface, PrivateDnsEnabled: true)"


def _check_names(deployment: Deployment, endpoint: Endpoint) -> Finding:
    """Return whether the service's own name leads to its endpoint."""
    vpcs = deployment.vpcs
    if endpoint.has_private_dns is True:
        return _check_vpc_attributes(endpoint)
    others = vpcs.of_service(endpoint.service, endpoint.vpc)
    host = _HOSTS.get(endpoint.service, f"{endpoint.service}.")
    if any(other.has_private_dns is True for other in others) or vpcs.has_private_zone(host):
        return passed(endpoint.resource, "endpoint-private-dns")
    is_open = endpoint.has_private_dns is None
    return (not_proven if is_open else refused)(
        endpoint.resource,
        "endpoint-private-dns",
        at="PrivateDnsEnabled",
        message=f"{endpoint.service} is called by its own name, which without private DNS leads out of the "
        "VPC; CloudFormation leaves it off unless asked.",
        mend="Set PrivateDnsEnabled: true.",
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
                mend="Set EnableDnsHostnames: true and EnableDnsSupport: true.",
            )
    return passed(endpoint.resource, "endpoint-private-dns")


MISTAKES = (
    Mistake(
        number=9,
        title="A called service without its interface endpoint, or private DNS off on it",
        parts={
            "missing-endpoint": "a task or function in a closed VPC calls a service that has no endpoint "
            "there, or only one of another region",
            "endpoint-private-dns": "the endpoint of a called service has private DNS off, or its VPC no "
            "DNS names",
        },
        why="In a VPC without a way to the internet a call to a service's own name resolves to a public "
        "address and hangs until it times out.",
        mend="An interface endpoint with private DNS for every service that a role of the VPC may call, "
        "and for what Fargate does itself: ecr.api, ecr.dkr, logs, secrets. Gateways for S3 and DynamoDB.",
        absent="no task or function runs in a VPC that is closed",
        facts="existing_endpoints, where endpoints stand outside the templates",
        check=_check,
    ),
)
