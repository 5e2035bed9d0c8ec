"""The edge stack."""

from __future__ import annotations

from constructs import Construct

from stacks.constructs.tenant_stack import TenantStack
from stacks.outputs import DataOutputs, EdgeOutputs, KeysOutputs, NetworkOutputs
from stacks.tenant import DeployedTenant


class EdgeStack(TenantStack):
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
        super().__init__(scope, construct_id, tenant=tenant, data_class="phi", description="edge")
        self.outputs = EdgeOutputs(
            target_group_arn="arn:aws:elasticloadbalancing:us-east-1:111111111111:targetgroup/t/1234567890123456",
            load_balancer_full_name="app/a/1",
            target_group_full_name="targetgroup/t/1",
            network_load_balancer_full_name="net/n/1",
            endpoint_service_id="vpce-svc-12345678",
            endpoint_service_name="com.amazonaws.vpce.us-east-1.vpce-svc-12345678",
        )
