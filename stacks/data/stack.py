"""The tenant's tables, from the definitions that local use makes them from too."""

from __future__ import annotations

from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from assistant.settings.deployed_names import PARTITION, SORT, TABLES, TableDefinition
from assistant.settings.model_artifacts import CALLERS_PREFIX
from stacks.data.buckets import TenantBuckets
from stacks.data.search import SearchDomain
from stacks.functions import FunctionRole, platform_statements
from stacks.keys import generated_log_groups
from stacks.outputs import DataOutputs, KeysOutputs, NetworkOutputs
from stacks.roles import Duty, tag_duty
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import NEVER_DELETED, TenantStack, pin, removal_of

_STRING = dynamodb.AttributeType.STRING


class TenantTables(Construct):
    """``names`` has the generated name of each table by its role (``records``)."""

    def __init__(
        self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, data_key_arn: str
    ) -> None:
        super().__init__(scope, construct_id)
        key = kms.Key.from_key_arn(self, "Key", data_key_arn)
        tables = {definition.role: self._table(definition, tenant=tenant, key=key) for definition in TABLES}
        self.names = {role: table.table_name for role, table in tables.items()}

    def _table(self, definition: TableDefinition, *, tenant: DeployedTenant, key: kms.IKey) -> dynamodb.Table:
        construct_id = f"{definition.role.capitalize()}Table"
        table = dynamodb.Table(
            self,
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
        if definition.index is not None:
            table.add_global_secondary_index(
                index_name=definition.index.name,
                partition_key=_attribute(definition.index.partition),
                sort_key=_attribute(definition.index.sort),
                projection_type=dynamodb.ProjectionType.ALL
                if definition.index.whole_items
                else dynamodb.ProjectionType.KEYS_ONLY,
            )
        pin(table, construct_id)
        return table


def _attribute(name: str) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=_STRING)


# Who puts model artifacts into the tenant's models bucket: a build of the company's takes this role.


PREFIXES = ("llm/", "embedding/", CALLERS_PREFIX)
"""Folders of the bucket: artifacts by task, and what callers of the endpoints need of them."""


class ArtifactPublisher(iam.Role):
    """It adds and reads, and deletes nothing: what an endpoint serves stays, and can be gone back to.

    No role of the VPC's: builds run elsewhere, and no endpoint follows from its rights.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, bucket: s3.IBucket, key_arn: str
    ) -> None:
        named = [iam.ArnPrincipal(arn) for arn in tenant.place.artifact_publishers]
        super().__init__(
            scope,
            construct_id,
            assumed_by=cast("iam.IPrincipal", iam.CompositePrincipal(*cast("list[iam.IPrincipal]", named))),
            description="Puts model artifacts into the models bucket",
        )
        tag_duty(self, Duty.PUBLISHER)
        iam.CfnManagedPolicy(
            self,
            "Publishing",
            description="Model artifacts: put, and read again",
            roles=[self.role_name],
            policy_document=iam.PolicyDocument(
                statements=[*_put_and_read(bucket), _through_s3(scope, key_arn=key_arn)]
            ),
        )


def _put_and_read(bucket: s3.IBucket) -> list[iam.PolicyStatement]:
    return [
        iam.PolicyStatement(
            actions=["s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject"],
            resources=[bucket.arn_for_objects(f"{prefix}*") for prefix in PREFIXES],
        ),
        iam.PolicyStatement(
            actions=["s3:ListBucket"],
            resources=[bucket.bucket_arn],
            conditions={"StringLike": {"s3:prefix": [f"{prefix}*" for prefix in PREFIXES]}},
        ),
    ]


def _through_s3(scope: Construct, *, key_arn: str) -> iam.PolicyStatement:
    """S3 decrypts the parts of a large upload when it joins them: "Uploading and copying objects using
    multipart upload", Amazon S3 user guide."""
    return iam.PolicyStatement(
        actions=["kms:GenerateDataKey", "kms:Decrypt"],
        resources=[key_arn],
        conditions={"StringEquals": {"kms:ViaService": f"s3.{cdk.Stack.of(scope).region}.amazonaws.com"}},
    )


# The data stack: all that would be lost with it. Nothing in it is deleted with its stack, ``dev`` aside.


class DataStack(TenantStack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
        network: NetworkOutputs,
    ) -> None:
        super().__init__(
            scope, construct_id, tenant=tenant, data_class="phi", description="data", stateful=True
        )
        buckets = TenantBuckets(self, "Buckets", tenant=tenant, keys=keys)
        tables = TenantTables(self, "Tables", tenant=tenant, data_key_arn=keys.data_key_arn).names
        schema_role = self._schema_role()
        domain = SearchDomain(
            self,
            "Search",
            tenant=tenant,
            keys=keys,
            network=network,
            master_role_arn=schema_role.role_arn,
        ).resource
        self._let_set_up(schema_role, domain_arn=domain.attr_arn)
        cdk.CfnOutput(self, "ModelsBucketName", value=buckets.models.bucket_name)
        if tenant.place.artifact_publishers:
            publisher = ArtifactPublisher(
                self,
                "ArtifactPublisher",
                tenant=tenant,
                bucket=buckets.models,
                key_arn=keys.models_key_arn,
            )
            cdk.CfnOutput(self, "ArtifactPublisherArn", value=publisher.role_arn)
        self.outputs = DataOutputs(
            documents_bucket=buckets.documents.bucket_name,
            models_bucket=buckets.models.bucket_name,
            quarantine_bucket=buckets.quarantine.bucket_name,
            capture_bucket=buckets.capture.bucket_name,
            feedback_bucket=buckets.feedback.bucket_name,
            inbox_bucket=buckets.inbox.bucket_name,
            logs_bucket=buckets.logs.bucket_name,
            trail_bucket=buckets.trail.bucket_name,
            records_table=tables["records"],
            events_table=tables["events"],
            states_table=tables["states"],
            domain_name=domain.ref,
            domain_arn=domain.attr_arn,
            domain_endpoint=domain.attr_domain_endpoint,
            schema_role_arn=schema_role.role_arn,
            schema_role_name=schema_role.role_name,
        )

    def _schema_role(self) -> FunctionRole:
        """Of a function in the ingestion stack, which adds what it reads there."""
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

    def _let_set_up(self, role: iam.Role, *, domain_arn: str) -> None:
        """Attached from this side: the domain names the role, and this policy the domain."""
        iam.CfnManagedPolicy(
            self,
            "SetUp",
            description="The search schema, and who may use the index",
            roles=[role.role_name],
            policy_document=iam.PolicyDocument(
                statements=[iam.PolicyStatement(actions=["es:ESHttp*"], resources=[f"{domain_arn}/*"])]
            ),
        )
