"""What the service depends on, and how its sockets are recognised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.fakes.faulty_proxy import Fault, Kind, Request


@dataclass(frozen=True)
class Dependency:
    """What the service depends on: a whole address, or some requests to one that it shares."""

    name: str
    address: str
    mark: str | None = None
    """Stands in the path or the body of its requests; its address is its own when None."""

    def fault(self, kind: Kind, **how: Any) -> Fault:
        return Fault(kind, self.is_of, **how) if self.mark is not None else Fault(kind, **how)

    def is_of(self, request: Request) -> bool:
        mark = self.mark or ""
        return mark in request.path or mark.encode() in request.body


EMBEDDING = Dependency("embedding endpoint", "sagemaker", "clinic-embedding/invocations")
LLM = Dependency("LLM endpoint", "sagemaker", "clinic-llm/invocations")
SEARCH = Dependency("OpenSearch", "opensearch")
RECORDS = Dependency("DynamoDB: records", "dynamodb", "-clinic-records")
EVENTS = Dependency("DynamoDB: claims of keys", "dynamodb", "-clinic-events")
STATES = Dependency("DynamoDB: document states", "dynamodb", "-clinic-states")
DOCUMENTS = Dependency("S3: documents", "s3")
QUEUE = Dependency("SQS: ingestion queue", "sqs")
KEYS = Dependency("issuer keys: JWKS address", "jwks")
KEYS_PARAMETER = Dependency("issuer keys: SSM parameter", "ssm", "/issuer-keys")
POWER = Dependency("SSM: power", "ssm", "/power")
LINK_SECRET = Dependency("KMS: link secret", "kms")
LIVE_SYSTEM = Dependency("live system", "orders")
CARE_KEYS = Dependency("care application's keys: SSM parameter", "ssm", "/care-jwks")
DEPENDENCIES = (
    EMBEDDING,
    LLM,
    SEARCH,
    RECORDS,
    EVENTS,
    STATES,
    DOCUMENTS,
    QUEUE,
    KEYS,
    KEYS_PARAMETER,
    POWER,
    LINK_SECRET,
    LIVE_SYSTEM,
    CARE_KEYS,
)
