"""Records, claims, document states and the desk by DynamoDB."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from assistant.aws.clients import open_client
from assistant.aws.dynamodb_desk import DynamoDbDeskStore
from assistant.aws.dynamodb_expiring import DynamoDbAnswerClaims, DynamoDbSentValues
from assistant.aws.dynamodb_feedback import DynamoDbErasureKeys, DynamoDbFeedbackOutbox
from assistant.aws.dynamodb_records import DynamoDbAnswerRecords, DynamoDbLiveReads
from assistant.aws.dynamodb_states import DynamoDbDocumentStates, DynamoDbSourceRuns
from assistant.domain.clock import Clock
from assistant.settings.deployed_names import DESK, EVENTS, RECORDS, STATES, TABLES
from tests.contracts.aws_twins import tenant_name
from tests.emulated_aws import create_table
from tests.fakes.aws_server import REGION, server_url


class DynamoDbTwin:
    """The tables ``<name>-<role>``, which must be there."""

    def __init__(self, client: Any, *, name: str) -> None:
        self._client = client
        self._name = name
        self.records = DynamoDbAnswerRecords(client, table=f"{name}-{RECORDS.role}")
        self.states = DynamoDbDocumentStates(client, table=f"{name}-{STATES.role}")
        self.source_runs = DynamoDbSourceRuns(client, table=f"{name}-{STATES.role}")
        self.claims = DynamoDbAnswerClaims(client, table=f"{name}-{EVENTS.role}")
        self.outbox = DynamoDbFeedbackOutbox(client, table=f"{name}-{RECORDS.role}")
        self.erasure_keys = DynamoDbErasureKeys(client, table=f"{name}-{EVENTS.role}")
        self.desk = DynamoDbDeskStore(client, table=f"{name}-{DESK.role}")
        self.live_reads = DynamoDbLiveReads(client, table=f"{name}-{RECORDS.role}")
        self._expiring: list[DynamoDbAnswerClaims | DynamoDbSentValues] = [self.claims]

    def claims_by(self, clock: Clock) -> DynamoDbAnswerClaims:
        claims = DynamoDbAnswerClaims(self._client, table=f"{self._name}-{EVENTS.role}", clock=clock)
        self._expiring.append(claims)
        return claims

    def sent_values_by(self, clock: Clock) -> DynamoDbSentValues:
        values = DynamoDbSentValues(self._client, table=f"{self._name}-{EVENTS.role}", clock=clock)
        self._expiring.append(values)
        return values

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
        stores = (self.records, self.states, self.desk, self.outbox, self.erasure_keys, self.live_reads)
        for store in (*stores, self.source_runs, *self._expiring):
            await store.close()


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
