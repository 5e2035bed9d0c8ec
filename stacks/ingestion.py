"""The ingestion stack."""

from __future__ import annotations

from constructs import Construct

from stacks.constructs.tenant_stack import TenantStack
from stacks.outputs import DataOutputs, IngestionOutputs, KeysOutputs, ModelsOutputs, NetworkOutputs
from stacks.tenant import DeployedTenant


class IngestionStack(TenantStack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
        network: NetworkOutputs,
        data: DataOutputs,
        models: ModelsOutputs,
    ) -> None:
        super().__init__(scope, construct_id, tenant=tenant, data_class="phi", description="ingestion")
        self.outputs = IngestionOutputs(
            ingestion_queue_url="https://sqs.us-east-1.amazonaws.com/111111111111/i",
            ingestion_queue_arn="arn:aws:sqs:us-east-1:111111111111:i",
            withdrawals_queue_url="https://sqs.us-east-1.amazonaws.com/111111111111/w",
            withdrawals_queue_arn="arn:aws:sqs:us-east-1:111111111111:w",
            queue_names=(),
            dead_letter_queue_names=(),
            function_names=(),
            schema_stamp="pending",
        )
