"""Recovery points of AWS Backup: a vault, and a plan for each kind of store that nothing can make again."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_backup as backup
from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.tenant.deployed_names import RECOVERY_VAULT_OUTPUT
from assistant.tenant.deployment import RECOVERY, RETENTION
from stacks.policy import exceptions, wildcard
from stacks.roles import USE_KEY, Duty, ServiceRole, allow, deny, resource_arn, via
from stacks.tenant_stack import OUTLIVES, pin, tenant_of

_END_EARLIER = ("DeleteRecoveryPoint", "DisassociateRecoveryPoint", "UpdateRecoveryPointLifecycle")


class RecoveryPoints(Construct):
    """The vault admits points of one lifetime alone, which begins with the copy: what was withdrawn is in no
    point after that time. In governance mode: an administrator may lift the lock, where a court orders it
    (docs/decisions/0131-recovery-points.md).

    Not the index, which is made again; not what expires, nor feedback, nor the locked trail.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, key_arn: str, tables: Sequence[str], documents: str
    ) -> None:
        """``tables`` and ``documents`` are ARNs: of tables, and of the bucket of originals."""
        super().__init__(scope, construct_id)
        profile, stack = tenant_of(self).place.profile, cdk.Stack.of(self)
        recovery, days = RECOVERY[profile], RETENTION[profile].backup
        actions = [f"backup:{action}" for action in (*_END_EARLIER, "StartCopyJob")]
        nobody = deny(None, actions=actions, resources=["*"], conditions={})
        vault = backup.CfnBackupVault(
            self,
            "Vault",
            # Another name for each stack: one that was deleted leaves its vault until the last point ends.
            backup_vault_name=f"recovery-{cdk.Fn.select(2, cdk.Fn.split('/', stack.stack_id))}",
            encryption_key_arn=key_arn,
            access_policy=iam.PolicyDocument(statements=[nobody]),
            lock_configuration={"minRetentionDays": days, "maxRetentionDays": days},
        )
        vault.apply_removal_policy(OUTLIVES)
        pin(vault, "RecoveryVault")
        cdk.CfnOutput(stack, RECOVERY_VAULT_OUTPUT, value=vault.ref)
        role = ServiceRole(
            self,
            "Role",
            service="backup.amazonaws.com",
            description="Copies tables and documents into the tenant's vault",
            statements=_statements(self, key_arn=key_arn, tables=tables, documents=documents),
            says_account=False,
        )
        cdk.Tags.of(role).add("duty", Duty.BACKUP)
        self.role_arn, self.vault_name = role.arn, vault.ref
        unique = cdk.Names.unique_resource_name(self, max_length=38)
        for name, hours, arns in (
            ("Tables", recovery.tables_every_hours, tables),
            ("Documents", recovery.documents_every_hours, [documents]),
        ):
            rule = {
                "ruleName": name,
                "targetBackupVault": vault.ref,
                "scheduleExpression": f"cron(0 {','.join(map(str, range(0, 24, hours)))} * * ? *)",
                "startWindowMinutes": 60 * recovery.start_hours,
                "completionWindowMinutes": 60 * recovery.run_hours,
                "lifecycle": {"deleteAfterDays": days},
            }
            named = {"backupPlanName": f"{unique}-{name}", "backupPlanRule": [rule]}
            plan = backup.CfnBackupPlan(self, f"{name}Plan", backup_plan=named)
            selected = {"selectionName": name, "iamRoleArn": role.arn, "resources": arns}
            backup.CfnBackupSelection(
                self, name, backup_plan_id=plan.ref, backup_selection=selected
            ).node.add_dependency(role.policy)


_TABLE = ("CreateBackup", "DescribeTable", "ListTagsOfResource", "StartAwsBackupJob")
_BUCKET = (
    *(f"GetBucket{part}" for part in ("Acl", "Location", "Notification", "Tagging", "Versioning")),
    *("GetInventoryConfiguration", "ListBucket", "ListBucketVersions", "PutBucketNotification"),
)
_OBJECT = tuple(f"GetObject{of}{part}" for of in ("", "Version") for part in ("", "Acl", "Tagging"))
_RULE = (
    *(f"{verb}Rule" for verb in ("Delete", "Describe", "Disable", "Enable", "Put")),
    *("ListTargetsByRule", "PutTargets", "RemoveTargets"),
)


def _statements(
    scope: Construct, *, key_arn: str, tables: Sequence[str], documents: str
) -> list[iam.PolicyStatement]:
    """Return what AWS Backup needs of these stores, by its managed policies for backups and S3 backups.

    https://docs.aws.amazon.com/aws-backup/latest/devguide/security-iam-awsmanpol.html. Without
    ``DeleteBackup`` points would not end in an account without advanced DynamoDB backups.
    """

    def may(service: str, names: Sequence[str], *arns: str) -> iam.PolicyStatement:
        return allow([f"{service}:{name}" for name in names], *arns)

    stack = cdk.Stack.of(scope)
    point = f"arn:{cdk.Aws.PARTITION}:backup:{stack.region}:{stack.account}:recovery-point:*"
    for_resource = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    return [
        may("dynamodb", _TABLE, *tables),
        may("dynamodb", ("DescribeBackup", "DeleteBackup"), *(f"{arn}/backup/*" for arn in tables)),
        may("s3", _BUCKET, documents),
        may("s3", _OBJECT, f"{documents}/*"),
        may("events", _RULE, resource_arn(scope, "events", "rule", "AwsBackupManagedRule*")),
        allow(("cloudwatch:GetMetricData", "events:ListRules", "s3:ListAllMyBuckets"), "*"),
        allow("backup:TagResource", point),
        allow(USE_KEY, key_arn, conditions=via(tenant_of(scope), "dynamodb", "s3")),
        allow("kms:DescribeKey", key_arn),
        allow("kms:CreateGrant", key_arn, conditions=for_resource),
    ]


EXCEPTIONS = exceptions(
    "Data/Recovery/Role",
    (
        *wildcard("<DocumentsBucket.Arn>/*"),
        *wildcard(*(f"<{table}Table.Arn>/backup/*" for table in ("Records", "States", "Desk"))),
        *wildcard("arn:<AWS::Partition>:backup:{region}:{account}:recovery-point:*"),
        *wildcard("arn:{partition}:events:{region}:{account}:rule/AwsBackupManagedRule*"),
        *wildcard("*"),
    ),
    "What AWS Backup does for its jobs, by its own managed policies, on this tenant's stores alone. It names "
    "points, backups and its rules itself; lists and metrics support no resources.",
    decision="0131-recovery-points",
)
