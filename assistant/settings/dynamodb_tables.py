"""The tables of a tenant: keys, index, expiry. Deployment and local use create them from this, in one place.

Three tables and not one, because they differ in lifetime and in who may write
(docs/decisions/0009-three-dynamodb-tables.md).
"""

from __future__ import annotations

from dataclasses import dataclass

PARTITION = "pk"
SORT = "sk"
"""All keys are strings."""


@dataclass(frozen=True, slots=True)
class SecondaryIndex:
    """A sparse global index: it holds the items that have both attributes."""

    name: str
    partition: str
    sort: str
    whole_items: bool
    """Else only the keys."""


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """What is particular to a table. Each has the keys ``pk`` and ``sk`` and is paid on demand."""

    role: str
    index: SecondaryIndex | None = None
    expiry_attribute: str | None = None
    """Holds epoch seconds; DynamoDB deletes the item some time later."""
    recoverable: bool = True
    """Point-in-time recovery. Off where nothing may outlive its expiry."""
    service_actions: tuple[str, ...] = ()
    """What the answering service needs on the table and its index, as IAM names it."""
    worker_actions: tuple[str, ...] = ()


_READ = ("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query")

RECORDS = TableDefinition(
    role="records",
    index=SecondaryIndex(name="listed", partition="listed", sort="listed_at", whole_items=True),
    # Neither UpdateItem nor DeleteItem: records are put, under the condition that there is none.
    service_actions=(*_READ, "dynamodb:PutItem"),
)
EVENTS = TableDefinition(
    role="events",
    expiry_attribute="expires_at",
    recoverable=False,
    service_actions=(
        *_READ,
        "dynamodb:BatchWriteItem",
        "dynamodb:PutItem",
        "dynamodb:UpdateItem",
        "dynamodb:DeleteItem",
    ),
)
STATES = TableDefinition(
    role="states",
    index=SecondaryIndex(name="by_state", partition="state", sort="sk", whole_items=False),
    service_actions=(*_READ, "dynamodb:BatchWriteItem"),
    worker_actions=(*_READ, "dynamodb:BatchWriteItem", "dynamodb:PutItem"),
)
TABLES = (RECORDS, EVENTS, STATES)
