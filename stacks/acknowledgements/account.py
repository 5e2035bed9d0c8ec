"""Findings that stay in the account stack, each with its reason."""

from __future__ import annotations

from stacks.constructs.tenant_boundary import SERVICES
from stacks.policy import Acknowledgement

_IAM5 = "AwsSolutions::AwsSolutions-IAM5"

ROWS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Account/Boundaries",
        findings=(
            *(f"{_IAM5}[Action::{action}]" for action in SERVICES if "*" in action),
            f"{_IAM5}[Resource::*]",
            "HIPAA.Security::HIPAA.Security-IAMPolicyNoStatementsWithFullAccess",
            "checkov::CKV_AWS_109",
            "checkov::CKV_AWS_111",
        ),
        reason="A boundary grants nothing: a role may do what its own policies say and this allows. It names "
        "the services that tenants' roles need at all, and denies what none of them may do there.",
        decision="0022-what-an-account-shares-and-who-watches",
    ),
)
