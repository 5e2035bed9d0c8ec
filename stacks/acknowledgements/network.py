"""Findings that stay in the network stack, each with its reason."""

from __future__ import annotations

from stacks.policy import Acknowledgement

ROWS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Network/Network/Vpc",
        findings=("HIPAA.Security::HIPAA.Security-VPCDefaultSecurityGroupClosed",),
        reason=(
            "No template can empty the default group: it fires on every VPC. CDK would do it by a function "
            "outside the VPC, which the product does not run. Nothing here carries that group: the "
            "reachability proof says so, and docs/architecture.md has the command that empties it."
        ),
        decision="0023-network-by-flows-and-by-rights",
    ),
    Acknowledgement(
        construct="Network/Network/NetworkAcl",
        findings=("AwsSolutions::AwsSolutions-VPC3",),
        reason=(
            "A warning to use network ACLs sparingly. There is one, of four rules and two for each consumer "
            "range: a second wall that holds if a security group is opened by hand."
        ),
        decision="0023-network-by-flows-and-by-rights",
    ),
)
