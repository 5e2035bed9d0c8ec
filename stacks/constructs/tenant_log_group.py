"""A log group: under the tenant's key, kept as long as its profile asks."""

from __future__ import annotations

from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.constructs.removal import removal_of
from stacks.tenant import DeployedTenant


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
