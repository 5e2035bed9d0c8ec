"""Findings that stay in the edge stack, each with its reason."""

from __future__ import annotations

from stacks.policy import Acknowledgement

ROWS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Edge/NetworkLoadBalancer",
        findings=(
            "AwsSolutions::AwsSolutions-ELB2",
            "HIPAA.Security::HIPAA.Security-ELBLoggingEnabled",
            "checkov::CKV_AWS_91",
        ),
        reason=(
            "An NLB writes access logs for TLS listeners only, and this one passes TCP on to the ALB, which "
            "logs every request; the flow logs of the VPC have its connections."
        ),
    ),
    Acknowledgement(
        construct="Edge/NetworkLoadBalancer/PrivateLink",
        findings=("HIPAA.Security::HIPAA.Security-ELBv2ACMCertificateRequired",),
        reason=(
            "TLS passes through this TCP listener whole and ends at the ALB, with the tenant's certificate: "
            "an NLB that ended it would hold the plain text one hop earlier."
        ),
    ),
)
