"""The keys stack: four KMS keys, deployed first and never deleted.

A key policy is the second wall around everything that a key encrypts. It allows and never denies
(docs/decisions/0017-key-policies-that-only-allow.md): services use keys through grants, exercised by
principals without any tag (EBS as ``aws:ec2-infrastructure``, for OpenSearch and SageMaker; DynamoDB), and an
explicit Deny would stand above the grant. What is not allowed is refused: the account is given administration
only, so no identity policy alone opens a key.
"""

from __future__ import annotations

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.constructs.key_statements import (
    administration,
    grants_for_services,
    published_by_alarms,
    queued_by_events,
    use_by_declared,
    use_by_deployment,
    use_by_logs,
    use_by_tenant,
    use_by_trails,
)
from stacks.constructs.pinned_id import pin
from stacks.constructs.removal import OUTLIVES
from stacks.constructs.tenant_stack import TenantStack
from stacks.outputs import KeysOutputs
from stacks.tenant import DeployedTenant


class KeysStack(TenantStack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
    ) -> None:
        super().__init__(
            scope, construct_id, tenant=tenant, data_class="internal", description="keys", stateful=True
        )
        data = self._key(
            "DataKey",
            "documents, tables, queues, feedback, search domain",
            use_by_tenant(tenant),
            use_by_deployment(self, tenant, through=["dynamodb", "lambda"]),
            queued_by_events(self),
        )
        # Captured calls are files: nobody has business with their key but through S3.
        capture = self._key("CaptureKey", "captured calls", use_by_tenant(tenant, through=["s3"]))
        models = self._key("ModelsKey", "model artifacts, endpoint volumes", use_by_tenant(tenant))
        logs = self._key(
            "LogsKey",
            "log groups, alarm topics, trails",
            use_by_tenant(tenant),
            use_by_logs(self, tenant),
            *use_by_trails(self, tenant),
            *published_by_alarms(self, tenant),
        )
        self.outputs = KeysOutputs(
            data_key_arn=data.key_arn,
            capture_key_arn=capture.key_arn,
            models_key_arn=models.key_arn,
            logs_key_arn=logs.key_arn,
        )

    def _key(self, construct_id: str, holds: str, *uses: iam.PolicyStatement) -> kms.Key:
        tenant = self.tenant
        statements = [
            *administration(self, tenant),
            *grants_for_services(self, tenant),
            *use_by_declared(tenant),
            *uses,
        ]
        key = kms.Key(
            self,
            construct_id,
            description=f"{tenant.config.display_name}: {holds}",
            enable_key_rotation=True,
            removal_policy=OUTLIVES,
            policy=iam.PolicyDocument(statements=statements),
        )
        pin(key, construct_id)
        return key
