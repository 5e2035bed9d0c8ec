"""Findings that stay in the care_app stack, each with its reason."""

from __future__ import annotations

from stacks.policy import Acknowledgement

ROWS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Link/Probe/Ask/Function",
        findings=("AwsSolutions::AwsSolutions-L1",),
        reason="Python 3.13 is the newest that the package supports; Lambda runs it until 2029-06-30.",
    ),
    Acknowledgement(
        construct="Link/Probe/Ask/Function",
        findings=("HIPAA.Security::HIPAA.Security-LambdaDLQ", "checkov::CKV_AWS_116"),
        reason=(
            "A probe that was not handed over is of no use later: the next one comes within five minutes, "
            "and one that does not come at all is missing data, at which the alarm goes off."
        ),
    ),
    Acknowledgement(
        construct="Link/Probe/Ask/Function",
        findings=("HIPAA.Security::HIPAA.Security-LambdaConcurrency", "checkov::CKV_AWS_115"),
        reason=(
            "A new account has 10 concurrent executions, all of which Lambda keeps unreserved: it would "
            "refuse the function. Who asks bounds it: a rule every five minutes, and one question for each "
            "stack that a deployment finishes."
        ),
    ),
    Acknowledgement(
        construct="Link/Probe/Ask/Platform",
        findings=("AwsSolutions::AwsSolutions-IAM5[Resource::*]", "checkov::CKV_AWS_111"),
        reason=(
            "Lambda's own calls for a function in a VPC: neither network interfaces before they are made nor "
            "X-Ray know resources. The function's code is denied the former."
        ),
    ),
    Acknowledgement(
        construct="Link/Network/Vpc",
        findings=("HIPAA.Security::HIPAA.Security-VPCDefaultSecurityGroupClosed",),
        reason=(
            "No template can empty the default group: it fires on every VPC. CDK would do it by a function "
            "outside the VPC, which the product does not run. Nothing here carries that group."
        ),
    ),
    Acknowledgement(
        construct="Link/Network/NetworkAcl",
        findings=("AwsSolutions::AwsSolutions-VPC3",),
        reason=(
            "A warning to use network ACLs sparingly. There is one: a second wall that holds if a security "
            "group is opened by hand."
        ),
    ),
)
