"""The data stack: all that would be lost with it. Nothing in it is deleted with its stack, ``dev`` aside."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.artifact_publisher import ArtifactPublisher
from stacks.constructs.key_statements import generated_log_groups
from stacks.constructs.search_domain import SearchDomain
from stacks.constructs.tables import TenantTables
from stacks.constructs.tenant_buckets import TenantBuckets
from stacks.constructs.tenant_stack import TenantStack
from stacks.constructs.vpc_function import FunctionRole, platform_statements
from stacks.outputs import DataOutputs, KeysOutputs, NetworkOutputs
from stacks.tenant import DeployedTenant


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
