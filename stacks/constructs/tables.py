"""The tenant's tables, from the definitions that local use makes them from too."""

from __future__ import annotations

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_kms as kms
from constructs import Construct

from assistant.settings.deployed_names import PARTITION, SORT, TABLES, TableDefinition
from stacks.constructs.pinned_id import pin
from stacks.constructs.removal import NEVER_DELETED, removal_of
from stacks.tenant import DeployedTenant

_STRING = dynamodb.AttributeType.STRING


class TenantTables(Construct):
    """``names`` has the generated name of each table by its role (``records``)."""

    def __init__(
        self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, data_key_arn: str
    ) -> None:
        super().__init__(scope, construct_id)
        key = kms.Key.from_key_arn(self, "Key", data_key_arn)
        tables = {definition.role: self._table(definition, tenant=tenant, key=key) for definition in TABLES}
        self.names = {role: table.table_name for role, table in tables.items()}

    def _table(self, definition: TableDefinition, *, tenant: DeployedTenant, key: kms.IKey) -> dynamodb.Table:
        construct_id = f"{definition.role.capitalize()}Table"
        table = dynamodb.Table(
            self,
            construct_id,
            partition_key=_attribute(PARTITION),
            sort_key=_attribute(SORT),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute=definition.expiry_attribute,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=definition.recoverable
            ),
            deletion_protection=not tenant.is_dev,
            removal_policy=removal_of(tenant, otherwise=NEVER_DELETED),
        )
        if definition.index is not None:
            table.add_global_secondary_index(
                index_name=definition.index.name,
                partition_key=_attribute(definition.index.partition),
                sort_key=_attribute(definition.index.sort),
                projection_type=dynamodb.ProjectionType.ALL
                if definition.index.whole_items
                else dynamodb.ProjectionType.KEYS_ONLY,
            )
        pin(table, construct_id)
        return table


def _attribute(name: str) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=_STRING)
