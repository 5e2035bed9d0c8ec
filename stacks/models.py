"""The models stack."""

from __future__ import annotations

from constructs import Construct

from stacks.constructs.tenant_stack import TenantStack
from stacks.outputs import DataOutputs, KeysOutputs, ModelsOutputs, NetworkOutputs
from stacks.tenant import DeployedTenant


class ModelsStack(TenantStack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
        network: NetworkOutputs,
        data: DataOutputs,
    ) -> None:
        super().__init__(scope, construct_id, tenant=tenant, data_class="phi", description="models")
        self.outputs = ModelsOutputs(
            embedding_endpoint_name=tenant.config.embedding.endpoint,
            llm_endpoint_name=tenant.config.generation.endpoint,
            power_parameter=tenant.power_parameter,
            pause_machine_arn="arn:aws:states:us-east-1:111111111111:stateMachine:p",
            resume_machine_arn="arn:aws:states:us-east-1:111111111111:stateMachine:r",
            model_stamp="pending",
        )
