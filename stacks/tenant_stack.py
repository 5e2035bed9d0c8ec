"""The stack of a tenant: its data class as a tag, its description, its protection."""

from __future__ import annotations

from typing import Literal

import aws_cdk as cdk
import jsii
from aws_cdk import RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct, IConstruct

from stacks.tenant import DeployedTenant

DataClass = Literal["phi", "internal", "public"]
"""What the resources of a stack hold or carry: patients' data; the company's own; nothing of either."""


class TenantStack(cdk.Stack):
    """A stack that knows whose it is.

    ``stateful`` protects it from deletion, and its logical ids are pinned (``stacks/pins``).
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        data_class: DataClass,
        description: str,
        stateful: bool = False,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            description=f"{tenant.config.display_name}: {description}",
            termination_protection=stateful,
        )
        self.tenant = tenant
        cdk.Tags.of(self).add("data-class", data_class)


# What becomes of a resource when its stack goes.


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


# Logical ids of stateful resources, said once: moving a construct must never replace what it stands for.


def pin(construct: Construct, logical_id: str) -> None:
    """Give the one resource of a construct (or the resource itself) its logical id."""
    resource = construct if isinstance(construct, cdk.CfnElement) else construct.node.default_child
    if not isinstance(resource, cdk.CfnElement):
        raise TypeError(f"{construct.node.path} is no construct of one resource; pin the resource itself.")
    resource.override_logical_id(logical_id)


# The company's path on every role and policy of a stage.


def set_role_path(stage: cdk.Stage, *, path: str) -> None:
    """Put every role and managed policy of the stage under ``path`` (``/assistant/``)."""
    cdk.Aspects.of(stage).add(_RolePath(path))


@jsii.implements(cdk.IAspect)
class _RolePath:
    def __init__(self, path: str) -> None:
        self._path = path

    def visit(self, node: IConstruct) -> None:
        if isinstance(node, iam.CfnRole | iam.CfnManagedPolicy):
            node.path = self._path


# A log group: under the tenant's key, kept as long as its profile asks.


def tenant_log_group(
    scope: Construct,
    construct_id: str,
    *,
    tenant: DeployedTenant,
    logs_key_arn: str,
    name: str | None = None,
) -> logs.LogGroup:
    """Make the group. It goes with a ``dev`` tenant, and outlives any other.

    ``name`` is only for one whose name a service chooses, which else makes it without key and end, or by
    whose name a service decides how it writes there.
    """
    return logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        retention=_RETENTION[tenant.log_retention_days],
        encryption_key=kms.Key.from_key_arn(scope, f"{construct_id}Key", logs_key_arn),
        removal_policy=removal_of(tenant),
    )


_RETENTION = {
    30: logs.RetentionDays.ONE_MONTH,
    365: logs.RetentionDays.ONE_YEAR,
    2192: logs.RetentionDays.SIX_YEARS,
}
