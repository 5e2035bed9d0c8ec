"""The data stack."""

from __future__ import annotations

from constructs import Construct

from stacks.constructs.tenant_stack import TenantStack
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
        super().__init__(scope, construct_id, tenant=tenant, data_class="phi", description="data")
        self.outputs = DataOutputs(
            documents_bucket="documents",
            models_bucket="models",
            quarantine_bucket="quarantine",
            capture_bucket="capture",
            feedback_bucket="feedback",
            inbox_bucket="inbox",
            logs_bucket="logs",
            records_table="records",
            events_table="events",
            states_table="states",
            domain_name="domain",
            domain_arn="arn:aws:es:us-east-1:111111111111:domain/domain",
            domain_endpoint="vpc-domain.example.com",
            schema_role_arn="arn:aws:iam::111111111111:role/schema",
        )
