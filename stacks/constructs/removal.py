"""What becomes of a resource when its stack goes."""

from __future__ import annotations

from aws_cdk import RemovalPolicy

from stacks.tenant import DeployedTenant

OUTLIVES = RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE
"""It stays, unless its very first creation is rolled back: then nothing is in it, and left behind it would be
paid for, or stand in the way of the next try by its name (``DeletionPolicy: RetainExceptOnCreate``,
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-deletionpolicy.html)."""
NEVER_DELETED = RemovalPolicy.RETAIN
"""For what a rollback could not delete, and would fail on: a protected table, a bucket that AWS has already
written to. Left behind, its name is generated, and it is empty or nearly so."""


def removal_of(tenant: DeployedTenant, *, otherwise: RemovalPolicy = OUTLIVES) -> RemovalPolicy:
    """Return that a resource goes with a ``dev`` tenant, and ``otherwise`` outlives its stack."""
    return RemovalPolicy.DESTROY if tenant.is_dev else otherwise
