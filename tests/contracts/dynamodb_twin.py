"""The tables of a tenant in DynamoDB, and the core's stores over them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from assistant.domain.errors import DependencyError
from assistant.process.aws import open_client
from assistant.stores.desk import StoredDesk
from assistant.stores.documents import StoredStates
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.events import StoredClaims, StoredErasureKeys
from assistant.stores.records import StoredRecords
from assistant.stores.table import Table
from assistant.tenant.deployed_names import DESK, EVENTS, RECORDS, STATES, TABLES
from tests.contracts.aws_twins import tenant_name
from tests.emulated_aws import create_table
from tests.fakes.aws_server import REGION, server_url


class DynamoDbTwin:
    """The tables ``<name>-<role>``, which must be there."""

    def __init__(self, client: Any, *, name: str) -> None:
        records, events, desk = (
            DynamoDbTable(client, name=f"{name}-{table.role}") for table in (RECORDS, EVENTS, DESK)
        )
        states = DynamoDbTable(client, name=f"{name}-{STATES.role}", unavailable=DependencyError)
        self._tables = records, events, desk, states
        self.records = StoredRecords(records)
        self.states = StoredStates(states)
        self.claims = StoredClaims(events)
        self.erasure_keys = StoredErasureKeys(events)
        self.desk = StoredDesk(desk)
        self.table: Table = desk
        self.expiring_table: Table = events
        self.records_table: Table = records
        self.states_table: Table = states

    async def close(self) -> None:
        for table in self._tables:
            await table.close()


@asynccontextmanager
async def open_dynamodb_twin(place: Path) -> AsyncGenerator[DynamoDbTwin]:
    name = tenant_name(place)
    async with open_client("dynamodb", region=REGION, endpoint_url=server_url()) as client:
        for definition in TABLES:
            await create_table(client, definition, name=f"{name}-{definition.role}")
        twin = DynamoDbTwin(client, name=name)
        try:
            yield twin
        finally:
            await twin.close()
