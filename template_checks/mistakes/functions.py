"""21: functions outside the VPC."""

from __future__ import annotations

from collections.abc import Iterator

from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.templates import Resource
from template_checks.values import targets, text
from template_checks.workloads import FUNCTIONS

_HELPERS = (
    "Custom::AWS",
    "Custom::CDKBucketDeployment",
    "Custom::CloudwatchLogResourcePolicy",
    "Custom::LogRetention",
    "Custom::OpenSearchAccessPolicy",
    "Custom::S3AutoDeleteObjects",
    "Custom::S3BucketNotifications",
    "Custom::VpcRestrictDefaultSG",
)
"""Custom resources behind which CDK puts a function of its own."""


def _check(deployment: Deployment) -> Iterator[Finding]:
    helped = _helped(deployment)
    for function in deployment.templates.of(*FUNCTIONS):
        if deployment.workloads.functions_subnets(function):
            yield passed(function, "function-outside-vpc")
        else:
            yield _outside(function, behind=helped.get(function))
    for resource in deployment.templates.of(*_HELPERS):
        if not targets(resource.properties.get("ServiceToken")):
            where = text(resource.properties.get("ServiceToken"))
            yield not_proven(
                resource,
                "helper-outside-vpc",
                at="ServiceToken",
                message=f"Where its function {where} runs is not told.",
                mend=_INSTEAD.get(resource.type, _BY_PROPERTIES),
            )


def _outside(function: Resource, *, behind: Resource | None) -> Finding:
    if behind is None:
        return refused(
            function,
            "function-outside-vpc",
            at="VpcConfig",
            message="It runs outside the VPC: no endpoint policy, flow log or security group sees what it "
            "does.",
            mend="Set VpcConfig with subnets and a security group.",
        )
    return refused(
        function,
        "helper-outside-vpc",
        at="VpcConfig",
        message=f"CDK put it behind {behind.type} ({behind.logical_id}), and it runs outside the VPC with "
        "rights on what is inside.",
        mend=_INSTEAD.get(behind.type, _BY_PROPERTIES),
    )


_BY_PROPERTIES = "Set what it does through the resource's own properties."
_INSTEAD = {
    "Custom::S3BucketNotifications": "Set NotificationConfiguration on the bucket itself.",
    "Custom::LogRetention": "Make the log group yourself, with RetentionInDays.",
    "Custom::OpenSearchAccessPolicy": "Set AccessPolicies on the domain itself.",
    "Custom::S3AutoDeleteObjects": "Do without auto-delete: empty the bucket by hand when it goes.",
    "Custom::CloudwatchLogResourcePolicy": "Make one AWS::Logs::ResourcePolicy for all domains.",
}


def _helped(deployment: Deployment) -> dict[Resource, Resource]:
    """Return each function behind a custom resource of CDK, with that resource."""
    found: dict[Resource, Resource] = {}
    for resource in deployment.templates.of():
        if resource.type in _HELPERS:
            for target in targets(resource.properties.get("ServiceToken")):
                found.setdefault(target.resource, resource)
    return found


MISTAKES = (
    Mistake(
        number=21,
        title="A CDK helper function outside the VPC, or any Lambda without VpcConfig",
        parts={
            "helper-outside-vpc": "a function that CDK adds behind a custom resource, without VpcConfig",
            "function-outside-vpc": "any other function without VpcConfig",
        },
        why="A function without VpcConfig runs in a network of AWS with a way to the internet. CDK adds "
        "such functions for bucket notifications, log retention, auto-delete and access policies.",
        mend="VpcConfig on every function; properties of the resources themselves in place of CDK's helpers.",
        absent="no function",
        check=_check,
    ),
)
