"""The data stack: documents, records, the search domain, the empty secrets of internal systems, and the
recovery points of AWS Backup. It holds all data, so its resources outlive a deletion of the stack, except for
``dev``.

Exceptions at the end name findings of validators, with two kinds of placeholders in an ARN:

    <DocumentsBucket.Arn>   cdk-nag writes so what CloudFormation resolves, here an attribute of the resource
    <AWS::Partition>        with that logical id, here a pseudo parameter. It is compared as it stands.
    {region}, {account}     are ours: ``stacks.policy`` puts in the stage's values, which CDK knows and which
                            differ by tenant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_backup as backup
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from assistant.process.settings import PUSHED_PREFIX
from assistant.tenant.deployed_names import PARTITION, RECOVERY_VAULT_OUTPUT, SORT, TABLES, TableDefinition
from assistant.tenant.deployment import RECOVERY, RETENTION, ReachEntry
from stacks.buckets import TenantBuckets, publisher_statements, pusher_statements
from stacks.functions import FunctionRole, platform_statements
from stacks.options import option_stacks
from stacks.outputs import DataOutputs, KeysOutputs, NetworkOutputs
from stacks.policy import ANY_RESOURCE, LAMBDA_PLATFORM, NO_REPLICATION, exceptions, hipaa, nag, wildcard
from stacks.roles import (
    INBOX_TAG,
    TENANT_TAG,
    USE_KEY,
    Conditions,
    Duty,
    ServiceRole,
    allow,
    attach,
    deny,
    exempt_principals,
    log_group_arn,
    outside_role,
    resource_arn,
    via,
)
from stacks.search import SearchDomain
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import NEVER_DELETED, OUTLIVES, TenantStack, pascal_case, pin, removal_of, tenant_of


class DataStack(TenantStack):
    """Buckets, tables, recovery points, search domain, secrets, roles of publishers and pushers."""

    def __init__(
        self, scope: Construct, *, tenant: DeployedTenant, keys: KeysOutputs, network: NetworkOutputs
    ) -> None:
        super().__init__(scope, "Data", tenant=tenant, data_class="phi", stateful=True)
        buckets = TenantBuckets(self, "Buckets", keys=keys)
        tables = self._tables(keys)
        names = {role: table.table_name for role, table in tables.items()}
        recovery = None
        if tenant.place.profile in RECOVERY:
            arns = [tables[definition.role].table_arn for definition in TABLES if definition.recoverable]
            documents, key = buckets.documents.bucket_arn, keys.data_key_arn
            recovery = RecoveryPoints(self, "Recovery", key_arn=key, tables=arns, documents=documents)
        schema_role = self._schema_role()
        search = SearchDomain(
            self, "Search", keys=keys, network=network, master_role_arn=schema_role.role_arn
        )
        domain = search.resource
        # Attached after both exist: the domain refers to the role, and this policy to the domain.
        attach(
            self,
            "SetUp",
            schema_role,
            [allow("es:ESHttp*", f"{domain.attr_arn}/*")],
            description="The search schema, and who may use the index",
        )
        secrets = SystemSecrets(self, "SystemSecrets", key_arn=keys.data_key_arn)
        cdk.CfnOutput(self, "ModelsBucketName", value=buckets.models.bucket_name)
        if tenant.place.artifact_publishers:
            self._add_publisher(buckets.models, key_arn=keys.models_key_arn)
        if tenant.place.pushers:
            self._add_pushers(buckets.inbox, key_arn=keys.data_key_arn)
        for option in option_stacks():
            option.add_to_data(self, keys, network, buckets.models)
        self.outputs = DataOutputs(
            documents_bucket=buckets.documents.bucket_name,
            models_bucket=buckets.models.bucket_name,
            quarantine_bucket=buckets.quarantine.bucket_name,
            capture_bucket=buckets.capture.bucket_name,
            labels_bucket=buckets.labels.bucket_name,
            texts_bucket=buckets.texts.bucket_name,
            inbox_bucket=buckets.inbox.bucket_name,
            logs_bucket=buckets.logs.bucket_name,
            trail_bucket=buckets.trail.bucket_name,
            records_table=names["records"],
            events_table=names["events"],
            states_table=names["states"],
            desk_table=names["desk"],
            domain_name=domain.ref,
            domain_arn=domain.attr_arn,
            domain_endpoint=domain.attr_domain_endpoint,
            missed_starts_queue=_missed_starts(self, keys).queue_name,
            search_log_group=search.error_log_group,
            schema_role_arn=schema_role.role_arn,
            schema_role_name=schema_role.role_name,
            system_secrets=secrets.arns,
            backup_role_arn=None if recovery is None else recovery.role_arn,
            recovery_vault=None if recovery is None else recovery.vault_name,
        )

    def _tables(self, keys: KeysOutputs) -> dict[str, dynamodb.Table]:
        """Create the tables of ``TABLES``, which local use creates too; return them by role (``records``).

        Those that recovery points must hold are created below ``BackedUp``: the exception from the rule that
        tables are in a backup plan covers ``Tables`` alone, so the validator checks the others."""
        scope, backed_up = Construct(self, "Tables"), Construct(self, "BackedUp")
        key = kms.Key.from_key_arn(scope, "Key", keys.data_key_arn)
        has_points = self.tenant.place.profile in RECOVERY
        scopes = {table: backed_up if has_points and table.recoverable else scope for table in TABLES}
        return {table.role: _table(scopes[table], table, key=key) for table in TABLES}

    def _schema_role(self) -> FunctionRole:
        """Create the role of the schema function here, because the domain refers to it as its master. The
        ingestion stack creates the function and adds the read permissions."""
        role = FunctionRole(
            self, "SchemaRole", description="Applies the search schema; the domain's only master"
        )
        platform = iam.ManagedPolicy(
            self,
            "SchemaPlatform",
            description="What Lambda itself does for the schema function",
            # The name of the function's log group is generated; it begins with the name of its stack.
            statements=platform_statements(
                self, log_group_arn=f"{log_group_arn(self, f'{self.tenant.full_name}-*')}:*"
            ),
        )
        role.add_managed_policy(platform)
        return role

    def _add_publisher(self, bucket: s3.IBucket, *, key_arn: str) -> None:
        """Create the role that a build assumes to publish model artifacts. It adds and reads, and deletes
        nothing."""
        role = outside_role(
            self,
            "ArtifactPublisher",
            "Publishing",
            publisher_statements(self, bucket, key_arn=key_arn),
            principals=self.tenant.place.artifact_publishers,
            description="Puts model artifacts into the models bucket",
            policy_description="Model artifacts: put, and read again",
            duty=Duty.PUBLISHER,
        )
        cdk.CfnOutput(self, "ArtifactPublisherArn", value=role.role_arn)

    def _add_pushers(self, inbox: s3.IBucket, *, key_arn: str) -> None:
        """Create a role for the pushers of each source, who are outside of the VPC. Its tag ``inbox`` (the
        source's name) is the only folder that it may put into.

        ``tenant.place.pushers``: ARNs that may assume the role, by source.
        """
        scope, tenant = Construct(self, "Pushers"), self.tenant
        parameter = tenant.place.inbox_parameter(tenant.name)
        ssm.StringParameter(scope, "Inbox", parameter_name=parameter, string_value=inbox.bucket_name)
        for source, arns in tenant.place.pushers.items():
            role = outside_role(
                scope,
                pascal_case(source),
                "Pushing",
                pusher_statements(self, inbox, key_arn=key_arn, parameter=parameter),
                principals=arns,
                description=f"Puts files of {source} into the inbox, and reads what became of them",
                policy_description="Files for the inbox: put, and read what became of them",
                duty=Duty.PUSHER,
                name=tenant.place.pusher(tenant.name, source),
            )
            cdk.Tags.of(role).add("inbox", source)  # read by statements as ``INBOX_TAG``


def _table(scope: Construct, definition: TableDefinition, *, key: kms.IKey) -> dynamodb.Table:
    """Create a table and its index. Its construct id, ``RecordsTable`` for the role "records", is its pinned
    logical id, so it does not change with ``scope``."""
    tenant = tenant_of(scope)
    construct_id = f"{definition.role.capitalize()}Table"
    table = dynamodb.Table(
        scope,
        construct_id,
        partition_key=_attribute(PARTITION),
        sort_key=_attribute(SORT),
        billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
        time_to_live_attribute=definition.expiry_attribute,
        encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
        encryption_key=key,
        point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
            point_in_time_recovery_enabled=definition.recoverable
        ),
        deletion_protection=not tenant.is_dev,
        removal_policy=removal_of(tenant, otherwise=NEVER_DELETED),
    )
    projections = dynamodb.ProjectionType
    for index in definition.indexes:
        table.add_global_secondary_index(
            index_name=index.name,
            partition_key=_attribute(index.partition),
            sort_key=_attribute(index.sort),
            projection_type=projections.ALL if index.whole_items else projections.KEYS_ONLY,
        )
    pin(table, construct_id)
    return table


def _attribute(name: str) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.STRING)


def _missed_starts(scope: Construct, keys: KeysOutputs) -> sqs.Queue:
    """Create the queue of starts that failed: the dead-letter queue of the tenant's schedules."""
    return sqs.Queue(
        scope,
        "MissedStarts",
        encryption=sqs.QueueEncryption.KMS,
        encryption_master_key=kms.Key.from_key_arn(scope, "MissedStartsKey", keys.data_key_arn),
        enforce_ssl=True,
        retention_period=cdk.Duration.days(14),
    )


class SystemSecrets(Construct):
    """One secret for each ``[[reach]]`` entry that is called with a token or OAuth credentials, or by
    connectors of sources, unless the entry names a secret of the company's.

    No value is in a template: whoever owns the system puts it and rotates it (docs/runbook.md). While a
    secret has no value, only that system's elements, or the runs of its sources, fail.
    """

    def __init__(self, scope: Construct, construct_id: str, *, key_arn: str) -> None:
        super().__init__(scope, construct_id)
        tenant = self._tenant = tenant_of(self)
        self.arns = {entry.name: self._create(entry, key_arn=key_arn) for entry in tenant.own_secrets}
        """ARN by the system's name."""

    def _create(self, entry: ReachEntry, *, key_arn: str) -> str:
        name = pascal_case(entry.name)
        secret = secretsmanager.CfnSecret(
            self,
            name,
            name=self._tenant.secret_of(entry),
            kms_key_id=key_arn,
            description=f"How the assistant proves itself to {entry.name}; put by the system's owner",
        )
        secret.apply_removal_policy(removal_of(self._tenant))
        pin(secret, f"{name}Secret")
        secretsmanager.CfnResourcePolicy(
            self,
            f"{name}Policy",
            secret_id=secret.ref,
            block_public_policy=True,
            resource_policy=self._policy(),
        )
        return secret.ref

    def _policy(self) -> Mapping[str, Any]:
        """Return the secret's policy, two Denies: only roles with the tenant's tag read the value, and roles
        of another tenant do nothing with the secret, whatever their own policies allow. The system's owner,
        who puts the value, has no tag ``tenant`` and may do so by a policy of its own."""
        without_our_tag = {
            "StringNotEquals": {TENANT_TAG: self._tenant.name},
            "ArnNotLike": {"aws:PrincipalArn": exempt_principals(self, tenant=self._tenant)},
        }
        with_anothers_tag = {**without_our_tag, "Null": {TENANT_TAG: "false"}}  # "false": the tag is there
        statements = [
            ("ReadByTenant", "secretsmanager:GetSecretValue", without_our_tag),
            ("RefuseOtherTenants", "secretsmanager:*", with_anothers_tag),
        ]
        return {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": sid,
                    "Effect": "Deny",
                    "Principal": {"AWS": "*"},
                    "Action": action,
                    "Resource": "*",
                    "Condition": conditions,
                }
                for sid, action, conditions in statements
            ],
        }


_END_EARLIER = ("DeleteRecoveryPoint", "DisassociateRecoveryPoint", "UpdateRecoveryPointLifecycle")
"""Actions of AWS Backup that would end a recovery point before its time."""


class RecoveryPoints(Construct):
    """AWS Backup's vault, its role, and a plan each for tables and documents.

    The vault's lock admits one lifetime for all points, counted from the copy: so long after a withdrawal no
    point holds the document any more. The lock is in governance mode, so that an administrator can lift it
    where a court orders it (docs/decisions/0131-recovery-points.md). Left out are the index, which can be
    built again, tables of what expires, feedback, and the locked trail.

    Where the tenant file names a vault for copies, AWS Backup copies each point there. A copy keeps the time
    of its point, so both end together
    (https://docs.aws.amazon.com/aws-backup/latest/devguide/recov-point-create-a-copy.html).
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, key_arn: str, tables: Sequence[str], documents: str
    ) -> None:
        """``tables``: ARNs of the tables. ``documents``: ARN of the bucket of documents."""
        super().__init__(scope, construct_id)
        place, stack = tenant_of(self).place, cdk.Stack.of(self)
        recovery, days = RECOVERY[place.profile], RETENTION[place.profile].backup
        role = ServiceRole(
            self,
            "Role",
            service="backup.amazonaws.com",
            description="Copies tables and documents into the tenant's vault",
            statements=_backup_statements(self, key_arn=key_arn, tables=tables, documents=documents),
            says_account=False,  # AWS Backup's guide shows no ``aws:SourceAccount`` for roles
        )
        # Read by statements as ``DUTY_TAG``. ``tag_duty`` takes an ``iam.Role``, which this is not.
        cdk.Tags.of(role).add("duty", Duty.BACKUP)
        by_role = {"ArnNotEquals": {"aws:PrincipalArn": role.arn}}
        of_copies: Conditions = by_role if place.recovery_copies else {}
        statements = [
            deny(None, actions=[f"backup:{name}" for name in names], resources=["*"], conditions=unless)
            for names, unless in ((_END_EARLIER, {}), (("StartCopyJob",), of_copies))
        ]
        vault = backup.CfnBackupVault(
            self,
            "Vault",
            # Named by the stack's unique id (arn:…:stack/<name>/<id>): a deleted stack leaves its vault, and
            # with it the name, until its last point ends.
            backup_vault_name=f"recovery-{cdk.Fn.select(2, cdk.Fn.split('/', stack.stack_id))}",
            encryption_key_arn=key_arn,
            access_policy=iam.PolicyDocument(statements=statements),
            lock_configuration={"minRetentionDays": days, "maxRetentionDays": days},
        )
        vault.apply_removal_policy(OUTLIVES)
        pin(vault, "RecoveryVault")
        cdk.CfnOutput(stack, RECOVERY_VAULT_OUTPUT, value=vault.ref)
        self.role_arn, self.vault_name = role.arn, vault.ref
        unique = cdk.Names.unique_resource_name(self, max_length=38)
        rights, lifecycle, copied = [role.policy], {"deleteAfterDays": days}, {}
        if there := place.recovery_copies:
            rights.append(self._copy_to(there, vault, role=role, key_arn=key_arn))
            copied = {"copyActions": [{"destinationBackupVaultArn": there, "lifecycle": lifecycle}]}
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
                "lifecycle": lifecycle,
                **copied,
            }
            settings = {"backupPlanName": f"{unique}-{name}", "backupPlanRule": [rule]}
            plan = backup.CfnBackupPlan(self, f"{name}Plan", backup_plan=settings)
            selected = {"selectionName": name, "iamRoleArn": role.arn, "resources": arns}
            # The selection begins the backups: not before the role has its permissions.
            backup.CfnBackupSelection(
                self, name, backup_plan_id=plan.ref, backup_selection=selected
            ).node.add_dependency(*rights)

    def _copy_to(
        self, there: str, vault: backup.CfnBackupVault, *, role: ServiceRole, key_arn: str
    ) -> iam.CfnManagedPolicy:
        """Let AWS Backup copy points into a vault of the company's in another account or region (its ARN),
        which its own key encrypts; return the policy. That vault and its key must admit the role, too.

        https://docs.aws.amazon.com/aws-backup/latest/devguide/create-cross-account-backup.html
        """
        through = {"StringLike": {"kms:ViaService": "backup.*.amazonaws.com"}}
        its_keys = {**through, "StringEquals": {"aws:ResourceAccount": there.split(":")[4]}}
        statements = [
            allow("backup:CopyFromBackupVault", vault.attr_backup_vault_arn),
            allow(("backup:CopyIntoBackupVault", "backup:DescribeBackupVault"), there),
            allow(USE_KEY, key_arn, conditions=through),
            allow("kms:DescribeKey", "*", conditions=its_keys),
            allow("kms:CreateGrant", "*", conditions={**its_keys, **_FOR_RESOURCE}),
        ]
        return attach(self, "Copies", role.name, statements, description="Copies points to another vault")


_TABLE_ACTIONS = ("CreateBackup", "DescribeTable", "ListTagsOfResource", "StartAwsBackupJob")
_BUCKET_ACTIONS = (
    *(f"GetBucket{part}" for part in ("Acl", "Location", "Notification", "Tagging", "Versioning")),
    *("GetInventoryConfiguration", "ListBucket", "ListBucketVersions", "ListTagsForResource"),
    *("PutBucketNotification", "PutInventoryConfiguration"),
)
_FOR_RESOURCE: Conditions = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
_OBJECT = tuple(f"GetObject{kind}{part}" for kind in ("", "Version") for part in ("", "Acl", "Tagging"))
"""``GetObject``, ``GetObjectAcl`` and so on up to ``GetObjectVersionTagging``."""
_RULE_ACTIONS = (
    *(f"{verb}Rule" for verb in ("Delete", "Describe", "Disable", "Enable", "Put")),
    *("ListTargetsByRule", "PutTargets", "RemoveTargets"),
)


def _backup_statements(
    scope: Construct, *, key_arn: str, tables: Sequence[str], documents: str
) -> list[iam.PolicyStatement]:
    """Return the permissions of AWS Backup's role on these stores, taken from its managed policies for
    backups and for S3 backups.

    https://docs.aws.amazon.com/aws-backup/latest/devguide/security-iam-awsmanpol.html. Without
    ``DeleteBackup`` points would not end in an account without advanced DynamoDB backups.
    """

    def may(service: str, names: Sequence[str], *arns: str) -> iam.PolicyStatement:
        return allow([f"{service}:{name}" for name in names], *arns)

    stack = cdk.Stack.of(scope)
    point = f"arn:{cdk.Aws.PARTITION}:backup:{stack.region}:{stack.account}:recovery-point:*"
    return [
        may("dynamodb", _TABLE_ACTIONS, *tables),
        may("dynamodb", ("DescribeBackup", "DeleteBackup"), *(f"{arn}/backup/*" for arn in tables)),
        may("s3", _BUCKET_ACTIONS, documents),
        may("s3", _OBJECT, f"{documents}/*"),
        may("events", _RULE_ACTIONS, resource_arn(scope, "events", "rule", "AwsBackupManagedRule*")),
        allow(("cloudwatch:GetMetricData", "events:ListRules", "s3:ListAllMyBuckets"), "*"),
        allow("backup:TagResource", point),
        allow(USE_KEY, key_arn, conditions=via(tenant_of(scope), "dynamodb", "s3")),
        allow("kms:DescribeKey", key_arn),
        allow("kms:CreateGrant", key_arn, conditions=_FOR_RESOURCE),
    ]


EXCEPTIONS = (
    *exceptions(
        "Data/Recovery/Role",
        (
            *wildcard("<DocumentsBucket.Arn>/*"),
            # The construct ids (``_table``) of all ``TABLES`` that are ``recoverable``.
            *wildcard(*(f"<{table}Table.Arn>/backup/*" for table in ("Records", "States", "Desk"))),
            # ``_backup_statements`` writes this ARN with a pseudo parameter, the next by ``resource_arn``.
            *wildcard("arn:<AWS::Partition>:backup:{region}:{account}:recovery-point:*"),
            *wildcard("arn:{partition}:events:{region}:{account}:rule/AwsBackupManagedRule*"),
            *wildcard("*"),
        ),
        "What AWS Backup does for its jobs, by its own managed policies, on this tenant's stores alone. It "
        "names points, backups and its rules itself; lists and metrics support no resources.",
        decision="0131-recovery-points",
    ),
    *exceptions(
        "Data/Recovery/Copies",
        wildcard("*"),
        "The key of the vault that the company names is known to that vault alone: keys of its account, "
        "through AWS Backup.",
        decision="0131-recovery-points",
    ),
    *exceptions(
        "Data/Buckets",
        NO_REPLICATION,
        "A copy in a second region is a second place to withdraw a document from, and not every company may "
        "store patients' data there. Versions undo mistakes; after the loss of a region the knowledge is "
        "ingested again from its sources.",
    ),
    *exceptions(
        "Data/Buckets/LogsBucket",
        hipaa("S3DefaultEncryptionKMS"),
        "Load balancers and S3's own access logs can write to SSE-S3 only (Elastic Load Balancing and "
        "Amazon S3 user guides, access logs). They hold addresses and paths, never a question.",
    ),
    *exceptions(
        "Data/Buckets/LogsBucket",
        "checkov::CKV_AWS_18",
        "It receives the access logs: its own would log the delivery of logs, without end.",
    ),
    *exceptions(
        "Data/Tables",
        hipaa("DynamoDBInBackupPlan"),
        "Point-in-time recovery covers every second of 35 days, and copies of what expires would outlive it. "
        "Under hipaa a plan has every other table.",
        decision="0131-recovery-points",
    ),
    *exceptions(
        "Data/Tables/EventsTable",
        (nag("DDB3"), "checkov::CKV_AWS_28", hipaa("DynamoDBPITREnabled")),
        "It holds what expires, live values of sent texts among it: with recovery they would stay for 35 "
        "days more.",
        decision="0009-three-dynamodb-tables",
    ),
    *exceptions(
        "Data/SystemSecrets",
        (nag("SMG4"), hipaa("SecretsManagerRotationEnabled")),
        "The credential is another system's: only its owner can make a new one. An alarm tells when that of "
        "a live system is 90 days old.",
    ),
    *exceptions(
        "Data/MissedStarts",
        nag("SQS3"),
        "It is a dead-letter queue itself: of schedules, which other stacks make.",
    ),
    *exceptions("Data/SchemaPlatform", ANY_RESOURCE, LAMBDA_PLATFORM),
    *exceptions(
        "Data/SchemaPlatform",
        wildcard("arn:{partition}:logs:{region}:{account}:log-group:{stage}-*:*"),
        "The function and its log group belong to the ingestion stack, which is deployed later: the "
        "tenant's own groups, and only the permission to write lines.",
    ),
    *exceptions(
        "Data/SetUp",
        (nag("IAM5[Action::es:ESHttp*]"), *wildcard("<Search.Arn>/*")),
        "The master of one domain: all HTTP methods on all its paths. One function's code uses it, and no "
        "other identity has this role.",
    ),
    *exceptions(
        "Data/ArtifactPublisher",
        wildcard(
            *(
                f"<ModelsBucket.Arn>/{folder}/*"
                for folder in ("llm", "embedding", "callers", "evaluation", "compiled")
            )
        ),
        "An artifact's folder is its hash, which is not known before it is built: the folders of artifacts "
        "and of questions, in which the role adds and reads and deletes nothing.",
    ),
    *exceptions(
        "Data/Pushers",
        wildcard(f"<InboxBucket.Arn>/<{INBOX_TAG}>/*", f"<InboxBucket.Arn>/{PUSHED_PREFIX}<{INBOX_TAG}>/*"),
        "Whoever pushes names the files; the role puts into the folder of its tag and reads the results of "
        "that folder, and nothing else (the bucket's policy says so too).",
        decision="0125-files-pushed-from-outside",
    ),
    *exceptions(
        "Data/Search/Domain",
        nag("OS3"),
        "The security group restricts addresses: the domain is in the VPC, where only the groups of "
        "searchers and writers reach it. Its policy admits one role.",
    ),
    *exceptions(
        "Data/Search/Domain",
        (nag("OS4"), nag("OS7")),
        "A sandbox has one small node, by its profile: its content can be ingested again, and nobody waits "
        "for it. standard and hipaa have several zones and three dedicated masters.",
    ),
)
