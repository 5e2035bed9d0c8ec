"""The keys stack."""

from __future__ import annotations

from constructs import Construct

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
        super().__init__(scope, construct_id, tenant=tenant, data_class="internal", description="keys")
        self.outputs = KeysOutputs(
            data_key_arn="arn:aws:kms:us-east-1:111111111111:key/pending",
            capture_key_arn="arn:aws:kms:us-east-1:111111111111:key/pending",
            models_key_arn="arn:aws:kms:us-east-1:111111111111:key/pending",
            logs_key_arn="arn:aws:kms:us-east-1:111111111111:key/pending",
        )
