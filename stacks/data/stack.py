"""The data stack: everything that would be lost with it. Nothing is deleted with the stack, except for
``dev``."""

from __future__ import annotations

from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from assistant.settings.deployed_names import PARTITION, SORT, TABLES, TableDefinition
from stacks.data.buckets import TenantBuckets
from stacks.data.permissions import publisher_statements
from stacks.data.search import SearchDomain
from stacks.data.secrets import SystemSecrets
from stacks.functions import FunctionRole, platform_statements
from stacks.keys import generated_log_groups
from stacks.outputs import DataOutputs, EarlierOutputs, KeysOutputs
from stacks.roles import Duty, allow, attach, tag_duty
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import NEVER_DELETED, TenantStack, pin, removal_of


class DataStack(TenantStack):
    def __init__(
        self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, earlier: EarlierOutputs
    ) -> None:
        super().__init__(scope, construct_id, tenant=tenant, data_class="phi", stateful=True)
        keys = earlier.keys
        buckets = TenantBuckets(self, "Buckets", tenant=tenant, keys=keys)
        tables = self._tables(keys)
        schema_role = self._schema_role()
        domain = SearchDomain(
            self, "Search", tenant=tenant, earlier=earlier, master_role_arn=schema_role.role_arn
        ).resource
        # The policy is attached here: the domain refers to the role, and this policy to the domain.
        attach(
            self,
            "SetUp",
            schema_role.role_name,
            [allow("es:ESHttp*", f"{domain.attr_arn}/*")],
            description="The search schema, and who may use the index",
        )
        secrets = SystemSecrets(self, "SystemSecrets", tenant=tenant, key_arn=keys.data_key_arn)
        cdk.CfnOutput(self, "ModelsBucketName", value=buckets.models.bucket_name)
        if tenant.place.artifact_publishers:
            self._add_publisher(buckets.models, key_arn=keys.models_key_arn)
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
            records_table=tables["records"],
            events_table=tables["events"],
            states_table=tables["states"],
            desk_table=tables["desk"],
            domain_name=domain.ref,
            domain_arn=domain.attr_arn,
            domain_endpoint=domain.attr_domain_endpoint,
            schema_role_arn=schema_role.role_arn,
            schema_role_name=schema_role.role_name,
            system_secrets=secrets.arns,
        )

    def _tables(self, keys: KeysOutputs) -> dict[str, str]:
        """Create the tables of ``TABLES``, which local use creates too; return their names by role
        (``records``)."""
        scope = Construct(self, "Tables")
        key = kms.Key.from_key_arn(scope, "Key", keys.data_key_arn)
        return {
            definition.role: _table(scope, definition, tenant=self.tenant, key=key).table_name
            for definition in TABLES
        }

    def _schema_role(self) -> FunctionRole:
        """Return the role of a function in the ingestion stack, which adds its read permissions there."""
        role = FunctionRole(
            self, "SchemaRole", description="Applies the search schema; the domain's only master"
        )
        platform = iam.ManagedPolicy(
            self,
            "SchemaPlatform",
            description="What Lambda itself does for the schema function",
            statements=platform_statements(
                self, log_group_arn=f"{generated_log_groups(self, tenant=self.tenant)}:*"
            ),
        )
        role.add_managed_policy(platform)
        return role

    def _add_publisher(self, bucket: s3.IBucket, *, key_arn: str) -> None:
        """Create the role that a build assumes to publish model artifacts. It adds and reads, and deletes
        nothing.

        It is no role of the VPC: builds run elsewhere, and it needs no endpoint.
        """
        principals = [
            cast("iam.IPrincipal", iam.ArnPrincipal(arn)) for arn in self.tenant.place.artifact_publishers
        ]
        role = iam.Role(
            self,
            "ArtifactPublisher",
            assumed_by=cast("iam.IPrincipal", iam.CompositePrincipal(*principals)),
            description="Puts model artifacts into the models bucket",
        )
        tag_duty(role, Duty.PUBLISHER)
        attach(
            role,
            "Publishing",
            role.role_name,
            publisher_statements(self, bucket, key_arn=key_arn),
            description="Model artifacts: put, and read again",
        )
        cdk.CfnOutput(self, "ArtifactPublisherArn", value=role.role_arn)


def _table(
    scope: Construct, definition: TableDefinition, *, tenant: DeployedTenant, key: kms.IKey
) -> dynamodb.Table:
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
    if index := definition.index:
        projections = dynamodb.ProjectionType
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
