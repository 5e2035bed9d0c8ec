"""The orchestrator stack."""

from __future__ import annotations

from constructs import Construct

from stacks.constructs.tenant_stack import TenantStack
from stacks.outputs import (
    DataOutputs,
    EdgeOutputs,
    IngestionOutputs,
    KeysOutputs,
    ModelsOutputs,
    NetworkOutputs,
    OrchestratorOutputs,
)
from stacks.tenant import DeployedTenant


class OrchestratorStack(TenantStack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
        network: NetworkOutputs,
        data: DataOutputs,
        edge: EdgeOutputs,
        models: ModelsOutputs,
        ingestion: IngestionOutputs,
    ) -> None:
        super().__init__(scope, construct_id, tenant=tenant, data_class="phi", description="orchestrator")
        self.outputs = OrchestratorOutputs(
            cluster_name="c",
            service_name="s",
            log_group_name="l",
            task_role_arn="arn:aws:iam::111111111111:role/t",
        )
