"""Names that the templates and the processes share: tables, metrics, power states, custom resources.

Imports nothing of the product, so that every function can read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

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


# The metrics that a task tells CloudWatch: emitted, scaled on, drawn and alarmed by the same names.


NAMESPACE = "PrivateCareAssistant"
DIMENSION = "Service"
"""The only dimension: its value is that of one tenant's service, the same in each of its tasks."""
ACTIVE_STREAMS = "ActiveStreams"
"""Answers in progress in one task, a sample a second; the average over all samples is that per task."""
INTERNAL_ERRORS = "InternalErrors"
"""Failures that nobody expected, in one task since its last line."""

ANSWER_ENDED = "answer_ended"
"""``event`` of the line that is logged once an answer, whose fields metric filters count."""
FINISH_REASON = "finish_reason"
"""Its field: a finish reason, the code of an error, or ``disconnected``."""
MODEL_FAILED = "model_failed"
"""Its field: true where the model could not be asked, was late or broke off, and a quote took its place."""
FIRST_TOKEN_MS = "first_token_ms"  # noqa: S105 - a token of text
"""Its field: from the request to the first token; null where none came."""


# The metrics that functions tell CloudWatch, under ``service_metrics``' namespace and its one dimension.


DOCUMENTS_POSTPONED = "DocumentsPostponed"
"""Messages put back to wait for an endpoint or a domain. Beside the power parameter it tells a pause from a
fault."""
RAW_FILES_REFUSED = "RawFilesRefused"
"""Raw files, or lines of them, that are no document."""
OLDEST_RAW_CAPTURE_AGE = "OldestRawCaptureAge"
"""Seconds since the oldest object in the quarantine was written; 0 when there is none."""


# The words of the power switch (``power_parameter``): what a tenant's endpoints shall be.


ON: Final = "on"
PAUSING: Final = "pausing"
"""They still stand, for what is in progress to end: nobody begins anything new."""
PAUSED: Final = "paused"
"""They are taken away, or were."""
RESUMING: Final = "resuming"
"""They are being made: nobody calls them yet."""
CLOSED: Final = (PAUSING, PAUSED, RESUMING)
"""Nobody calls an endpoint while it says one of these."""


# What deployment and adapters agree on about the search schema.


SCHEMA_VERSION = 2
"""Grows with a change of mapping, analyzer or settings: such an index is a new version and is filled anew."""
SEARCH_SCHEMA_RESOURCE = "Custom::SearchSchema"
"""Of CloudFormation: index, pipeline, alias, audit. The property ``Stamp`` is what a change of it applies."""
SEARCH_ACCESS_RESOURCE = "Custom::SearchAccess"
"""Of CloudFormation: lets ``RoleArns`` into the tenant's index, to ``Access``, an ``IndexAccess``."""
LINK_SECRET_RESOURCE = "Custom::LinkSecret"  # noqa: S105 - a type of resource

IndexAccess = Literal["read", "write"]
"""``read``: search and see what the index was built with. ``write``: rows and their removal too."""


# What callers and redactor agree on about captured calls of the embedding endpoint.


CapturePurpose = Literal["question", "passage"]
"""Questions of agents, or passages of the corpus: both go to one endpoint, which captures by one share."""
CAPTURE_PURPOSES: tuple[CapturePurpose, ...] = ("question", "passage")


def capture_attribute(purpose: CapturePurpose) -> str:
    """Return what the call says of itself (SageMaker's custom attributes), and its capture repeats."""
    return f"purpose={purpose}"


# What KMS holds the secret of a tenant's document links to: who makes it, reads it and grants that agree.


LINK_SECRET_PURPOSE = "document-links"  # noqa: S105 - what it is for


def link_secret_context(tenant: str) -> dict[str, str]:
    """Return the encryption context under which the tenant's secret is encrypted."""
    return {"tenant": tenant, "purpose": LINK_SECRET_PURPOSE}
