"""The corpus stack."""

from __future__ import annotations

from constructs import Construct

from stacks.constructs.tenant_stack import TenantStack
from stacks.outputs import DataOutputs, KeysOutputs, NetworkOutputs
from stacks.tenant import DeployedTenant


class CorpusStack(TenantStack):
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
        super().__init__(scope, construct_id, tenant=tenant, data_class="internal", description="corpus")
        del keys, network, data
