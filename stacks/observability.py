"""The observability stack."""

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


class ObservabilityStack(TenantStack):
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
        orchestrator: OrchestratorOutputs,
    ) -> None:
        super().__init__(
            scope, construct_id, tenant=tenant, data_class="internal", description="observability"
        )
        del keys, network, data, edge, models, ingestion, orchestrator
