"""Records, claims, document states and the desk by DynamoDB."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from assistant.domain.clock import Clock
from assistant.domain.errors import DependencyError
from assistant.options.desk.mover import StoredOutbox
from assistant.options.live.stored import StoredLiveReads, StoredSentValues
from assistant.options.sources.run import StoredSourceRuns
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
        self._client = client
        self._name = name
        records, self.events, desk = (
            DynamoDbTable(client, name=f"{name}-{table.role}") for table in (RECORDS, EVENTS, DESK)
        )
        states = DynamoDbTable(client, name=f"{name}-{STATES.role}", unavailable=DependencyError)
        self._tables = records, self.events, desk, states
        self.records = StoredRecords(records)
        self.states = StoredStates(states)
        self.source_runs = StoredSourceRuns(states)
        self.claims = StoredClaims(self.events)
        self.outbox = StoredOutbox(records)
        self.erasure_keys = StoredErasureKeys(self.events)
        self.desk = StoredDesk(desk)
        self.live_reads = StoredLiveReads(records)
        self.table: Table = desk
        self.expiring_table: Table = self.events
        self.records_table: Table = records
        self.states_table: Table = states

    def claims_by(self, clock: Clock) -> StoredClaims:
        return StoredClaims(self.events, clock=clock)

    def sent_values_by(self, clock: Clock) -> StoredSentValues:
        return StoredSentValues(self.events, clock=clock)

    async def stored_bytes(self, clock: Clock) -> bytes:
        """Return all items, without the expired ones: DynamoDB deletes them, moto does not."""
        now_s, found = clock.now().timestamp(), list[Any]()
        for role in (RECORDS.role, EVENTS.role):
            pages = self._client.get_paginator("scan").paginate(TableName=f"{self._name}-{role}")
            async for page in pages:
                expiry = [float(item.get("expires_at", {"N": "inf"})["N"]) for item in page["Items"]]
                found += [item for item, at in zip(page["Items"], expiry, strict=True) if at > now_s]
        return repr(found).encode()

    def client_and_table(self) -> tuple[Any, str]:
        """Return what changes the records behind their store's back."""
        return self._client, f"{self._name}-{RECORDS.role}"

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
