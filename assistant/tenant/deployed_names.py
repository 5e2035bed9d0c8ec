"""Names that the templates and the processes share: tables, metrics, power states, custom resources.

A tenant has four tables because they differ in lifetime and in who may write
(docs/decisions/0009-three-dynamodb-tables.md, docs/decisions/0045-review-desk.md). This module imports
nothing of the product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

PARTITION = "pk"
SORT = "sk"
"""Names of the keys of every table."""


@dataclass(frozen=True, slots=True)
class SecondaryIndex:
    """A sparse global index: it holds the items that have both attributes."""

    name: str
    partition: str
    sort: str
    whole_items: bool
    """Projects all attributes; else the keys only."""


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """One table of a tenant, with the string keys ``pk`` and ``sk``, billed on demand."""

    role: str
    indexes: tuple[SecondaryIndex, ...] = ()
    expiry_attribute: str | None = None
    """Attribute with epoch seconds after which DynamoDB deletes the item, within some days."""
    recoverable: bool = True
    """Point-in-time recovery. Off where no copy may outlive the expiry."""
    service_actions: tuple[str, ...] = ()
    """IAM actions of the answering service on the table and its indexes."""
    worker_actions: tuple[str, ...] = ()
    """IAM actions of the ingestion worker."""
    mover_actions: tuple[str, ...] = ()
    """IAM actions of ``move_feedback``."""
    mover_updates: tuple[str, ...] = ()
    """The only attributes that ``move_feedback`` may name in an UpdateItem (``dynamodb:Attributes``)."""


OUTBOX = "outbox"
"""Value of ``listed`` in the index of the records: rows that ``move_feedback`` has not taken yet."""
LISTED = "listed"
"""Name of the index by time, and of its partition key: it lists answers and the outbox of the records, cases
of the desk, and documents by the last write of their states."""
_LISTED_AT = "listed_at"
"""Its sort key: the time by which it lists."""
BY_TIME = SecondaryIndex(name=LISTED, partition=LISTED, sort=_LISTED_AT, whole_items=True)
BY_WRITE = SecondaryIndex(name=LISTED, partition=LISTED, sort=_LISTED_AT, whole_items=False)
BY_STATE = SecondaryIndex(name="by_state", partition="state", sort="sk", whole_items=False)
_READ = ("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query")

RECORDS = TableDefinition(
    role="records",
    indexes=(BY_TIME,),
    # Neither UpdateItem nor DeleteItem: records are put once, on the condition that none exists.
    service_actions=(*_READ, "dynamodb:PutItem"),
    # The mover takes rows out of the index, and can change nothing else of a record.
    mover_actions=(*_READ, "dynamodb:UpdateItem"),
    mover_updates=(PARTITION, SORT, LISTED, _LISTED_AT),
)
EVENTS = TableDefinition(
    role="events",
    expiry_attribute="expires_at",
    recoverable=False,
    service_actions=(
        *_READ,
        # Batches and updates are made by the release before, whose tasks serve while a deployment replaces
        # them.
        "dynamodb:BatchWriteItem",
        "dynamodb:PutItem",
        "dynamodb:UpdateItem",
        "dynamodb:DeleteItem",
    ),
    # Keys of sealed texts are in this table, since it has no recovery that would bring a destroyed key back.
    mover_actions=(*_READ, "dynamodb:PutItem", "dynamodb:UpdateItem"),
)
STATES = TableDefinition(
    role="states",
    indexes=(BY_STATE, BY_WRITE),
    service_actions=(*_READ, "dynamodb:BatchWriteItem"),
    worker_actions=(*_READ, "dynamodb:BatchWriteItem", "dynamodb:PutItem"),
    mover_actions=_READ,
)
DESK = TableDefinition(
    role="desk",
    indexes=(BY_TIME,),
    # No UpdateItem and DeleteItem, as for records: revisions are only added.
    service_actions=(*_READ, "dynamodb:PutItem"),
    worker_actions=(*_READ, "dynamodb:PutItem"),
)
TABLES = (RECORDS, EVENTS, STATES, DESK)

ACCESS_PARTITIONS = ("access#*",)
"""Partitions of the records with who read or tried what."""
AUDITED_PARTITIONS = (*ACCESS_PARTITIONS, "live#*")
"""Partitions with all audit records: also reads of live systems."""
AUDIT_FOLDER = "audit/"
"""Folder of the trail bucket with the digests of audit records, one a day."""
AUDIT_OUTPUT = "AuditStores"
"""Output of the ingestion stack: the fields of ``AuditSettings`` as JSON."""
RECEIPT_KEY_OUTPUT = "ReceiptKeyArn"
"""Output of the keys stack: the KMS key that signs receipts of withdrawals."""
RECOVERY_VAULT_OUTPUT = "RecoveryVault"
"""Output of the data stack: AWS Backup's vault; absent where the profile has none."""
ERASURE_PARTITIONS = ("erasure#*",)
"""Patterns of the partitions of the events' table that have the keys of erasure."""
CASES, CASE_INDEX, ACT_REQUESTS = "case", "case_index", "act_request"
APPROVED = "approved_answer"
"""Kinds of desk items that functions put or read, with the values of ``DeskKind``: cases, lists of the ids of
unresolved cases, what one of two people asked for, and approved answers."""


def desk_partitions(*kinds: str) -> tuple[str, ...]:
    """Return patterns of the partitions of the desk's table that a role needs for items of these kinds, as
    IAM takes them (``dynamodb:LeadingKeys``)."""
    return tuple(pattern for kind in kinds for pattern in (f"item#{kind}#*", f"newest#{kind}"))


ACCOUNT_STACK, ACCOUNT_VERSION_OUTPUT = "assistant-account-Account", "Version"
"""The stack of the account stage, and its output with the version."""
ACCOUNT_VERSION = 5
"""Version of the account stage. Increase it with each change of its template: a tenant's deployment refuses
an account stage that is older."""
SERVED_VARIANT = "AllTraffic"
"""Production variant of an endpoint that runs the model which the tenant file names."""
NEXT_ENDPOINT = "-next"
"""Ending of the name of one of the two endpoints for embedding models: ``pharmacy-embedding`` and
``pharmacy-embedding-next``. ``[embedding]`` may name either: a model keeps its endpoint, and so its
resources, when it moves from ``[embedding_next]`` to ``[embedding]``."""
REINDEX_OUTPUT = "ReindexFunction"
"""Output of the ingestion stack: the function that fills and switches versions of the index; absent without
``[embedding_next]``."""

# --- metrics of the service's tasks -----------------------------------------------------------------------
NAMESPACE = "PrivateCareAssistant"
"""CloudWatch namespace of all metrics."""
DIMENSION = "Service"
"""The only dimension of task and function metrics: the tenant's service, the same in each of its tasks."""
ACTIVE_STREAMS = "ActiveStreams"
"""Answers in progress in one task, sampled each second; the average of all samples is that of a task."""
INTERNAL_ERRORS = "InternalErrors"
"""Unexpected failures in one task since its last line."""
SYSTEM_CREDENTIAL_AGE = "SystemCredentialAge"
"""Days since the oldest secret of a live system in use was put; absent where none was read."""
SYSTEM_DIMENSION = "System"
"""Second dimension of ``LIVE_READS``, ``LIVE_READS_FAILED``, ``LIVE_READS_INVALID``,
``LIVE_READS_NOT_ALLOWED``, ``LIVE_READ_TIME``, ``LIVE_CIRCUIT_OPEN``: the name of a ``[[reach]]`` entry."""
LIVE_READS = "LiveReads"
"""Calls of one live system that ended, without cancelled ones. A system that is switched off is not called.
Absent, as all with ``SYSTEM_DIMENSION``, where nothing happened: CloudWatch bills a metric by the hours that
have data."""
LIVE_READS_FAILED = "LiveReadsFailed"
"""Calls without a response in time, which ``LIVE_READS`` counts too."""
LIVE_READS_INVALID = "LiveReadsInvalid"
"""Calls whose response the connector does not allow, which ``LIVE_READS`` counts too."""
LIVE_READS_NOT_ALLOWED = "LiveReadsNotAllowed"
"""Calls that the system refused, or answered with another customer's data; ``LIVE_READS`` counts them too."""
LIVE_READ_TIME = "LiveReadTime"
"""Milliseconds of the calls that were answered or late."""
LIVE_CIRCUIT_OPEN = "LiveCircuitOpen"
"""1 when a task calls the system no more because it failed several times in a row."""
SOURCES_LEFT_OUT = "SourcesLeftOut"
"""Searches of a source of documents that failed or were late, in one task since its last line."""
# What answers used, in one task since its last line; absent where it is 0: ``QUOTED_ANSWERS``,
# ``WRITTEN_ANSWERS``, ``PROMPT_TOKENS``, ``COMPLETION_TOKENS``, ``EMBEDDED_TEXTS``, ``ANSWER_SECONDS``.
QUOTED_ANSWERS = "QuotedAnswers"
"""Answers without a model's text that ended."""
WRITTEN_ANSWERS = "WrittenAnswers"
"""Answers that the model wrote."""
PROMPT_TOKENS = "PromptTokens"
"""Tokens that the model read for them."""
COMPLETION_TOKENS = "CompletionTokens"
"""Tokens that it wrote."""
EMBEDDED_TEXTS = "EmbeddedTexts"
"""Texts that the embedding endpoint embedded for questions."""
ANSWER_SECONDS = "AnswerSeconds"
"""Seconds from the requests to the ends of all answers together."""

# --- the log line of an answer, which metric filters count ------------------------------------------------
ANSWER_ENDED = "answer_ended"
"""``event`` of the line that is logged once for each answer."""
FINISH_REASON = "finish_reason"
"""Field: a finish reason, the code of an error, or ``disconnected``."""
MODEL_FAILED = "model_failed"
"""Field: true when the model was unavailable, late or interrupted, and a quote replaced its text."""
FIRST_TOKEN_MS = "first_token_ms"  # noqa: S105 - a token of text
"""Field: from the request to the first token; null without one."""

# --- metrics of functions ---------------------------------------------------------------------------------
DOCUMENTS_POSTPONED = "DocumentsPostponed"
"""Messages put back to wait for an endpoint or a domain. With the power parameter it separates a pause from a
fault."""
RAW_FILES_REFUSED = "RawFilesRefused"
"""Raw files, or lines of them, that are not documents."""
OLDEST_SIGNAL_AGE = "OldestSignalAge"
"""Seconds since the oldest signal that is not in the feedback store was given; 0 without any."""
OLDEST_RAW_CAPTURE_AGE = "OldestRawCaptureAge"
"""Seconds since the oldest object in the quarantine was written; 0 without objects."""
AUDIT_CLOSED = "AuditClosed"
"""1 when a run has written the digests of all ended days of audit records; absent when it failed."""
SETS_RUN = "SetsRun"
"""1 when a run of the task that makes training sets succeeded, also without examples; 0 when it failed."""

# --- the probe --------------------------------------------------------------------------------------------
PROBE_SUBJECT = "probe"
"""``sub`` of the probe's tokens, and id of its key in the tenant's key set, which is bound to it."""
PROBE_DIMENSION = "Tenant"
PROBE_FAILED = "ProbeFailed"
"""1 when the question was not answered through the private link, else 0."""
PROBE_DEGRADED = "ProbeDegraded"
"""1 when the answer had sources but no text of the model, else 0."""
PROBE_PAUSED = "ProbePaused"
"""1 when the tenant's endpoints were paused, else 0: nothing is wrong."""
PROBE_DURATION = "ProbeDuration"
"""Milliseconds from the first packet to the end of the answer."""

# --- values of the power parameter ------------------------------------------------------------------------
ON: Final = "on"
OFF: Final = "off"
"""A live system's switch is ``ON`` or ``OFF``; the power of endpoints is ``ON`` or one of the values
below."""
PAUSING: Final = "pausing"
"""The endpoints still exist, for calls in progress; nobody starts a new one."""
PAUSED: Final = "paused"
"""The endpoints are deleted, or are being deleted."""
RESUMING: Final = "resuming"
"""The endpoints are being created; nobody calls them yet."""
CLOSED: Final = (PAUSING, PAUSED, RESUMING)
"""Values with which nobody calls an endpoint."""

# --- custom resources of CloudFormation, and the search schema --------------------------------------------
SCHEMA_VERSION = 2
"""Increase it when mapping, analyzer or settings of the index in OpenSearch change: the index is then a new
version, to be filled."""
PIPELINE = f"passages-rrf-v{SCHEMA_VERSION}"
"""Search pipeline, one for all tenants of a domain: it only says how legs are fused."""
SEARCH_SCHEMA_RESOURCE = "Custom::SearchSchema"
"""Creates index, pipeline, alias and audit log. A change of its property ``Stamp`` applies them again."""
SEARCH_ACCESS_RESOURCE = "Custom::SearchAccess"
"""Gives ``RoleArns`` the access ``Access``, an ``IndexAccess``, to the tenant's index."""
LINK_SECRET_RESOURCE = "Custom::LinkSecret"  # noqa: S105 - a type of resource
"""Creates the tenant's secrets, one for each purpose below (``link_secret_context``)."""

IndexAccess = Literal["read", "write", "reindex"]
"""``read``: search, and read the index's metadata. ``write``: also index and delete rows. ``reindex``: also
create and delete versions of the index, and move its alias."""

# --- corpora and captured calls ---------------------------------------------------------------------------
CORPORA = "corpora/"
"""Folder of the corpora in their bucket, which jobs write."""
CapturePurpose = Literal["question", "passage"]
"""Captured calls of the embedding endpoint: questions of agents, or passages of the corpus."""
CAPTURE_PURPOSES: tuple[CapturePurpose, ...] = ("question", "passage")


def capture_attribute(purpose: CapturePurpose) -> str:
    """Return the value of SageMaker's custom attributes by which the redactor knows a call's purpose."""
    return f"purpose={purpose}"


# --- secrets of a tenant, by purpose ----------------------------------------------------------------------
LINK_SECRET_PURPOSE = "document-links"  # noqa: S105 - what the secret is for
"""Signs the links to documents."""
FEEDBACK_SECRET_PURPOSE = "feedback-pseudonyms"  # noqa: S105 - what the secret is for
"""Makes the pseudonyms in the feedback store: of agents, conversations and patients."""
LIVE_READS_SECRET_PURPOSE = "live-read-pseudonyms"  # noqa: S105 - what the secret is for
"""Makes the pseudonyms of customers in the records of live reads."""


def link_secret_context(tenant: str, purpose: str = LINK_SECRET_PURPOSE) -> dict[str, str]:
    """Return KMS's encryption context of a secret of the tenant: by default the one of document links."""
    return {"tenant": tenant, "purpose": purpose}
