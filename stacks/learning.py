"""The learning stack."""

from __future__ import annotations

from constructs import Construct

from stacks.constructs.tenant_stack import TenantStack
from stacks.outputs import DataOutputs, KeysOutputs, ModelsOutputs, NetworkOutputs
from stacks.tenant import DeployedTenant


class LearningStack(TenantStack):
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
        super().__init__(scope, construct_id, tenant=tenant, data_class="phi", description="learning")
        del keys, network, data, models
