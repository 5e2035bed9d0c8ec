"""Exceptions of the ingestion stack."""

from __future__ import annotations

from stacks.policy import (
    ANY_RESOURCE,
    CAPTURE_BUCKET,
    DOCUMENTS_BUCKET,
    LAMBDA_PLATFORM,
    OWN_INLINE_POLICY,
    PYTHON_RUNTIME,
    QUARANTINE_BUCKET,
    exceptions,
    hipaa,
    nag,
    of_data_stack,
    wildcard,
)

_INBOX = of_data_stack("PublishOutputRefInboxBucketFE28DFA5")
_DOMAIN = of_data_stack("PublishOutputFnGetAttSearchArn29A45148")
_FUNCTIONS = (
    "LinkSecret",
    "Documents/Receive",
    "Documents/Ingest",
    "Documents/Withdraw",
    "Documents/Purge",
    "Redaction/Redact",
    "Redaction/Sweep",
)


def _policies_of(*roles: str) -> list[str]:
    return [f"Ingestion/{role}/DefaultPolicy" for role in roles]


EXCEPTIONS = (
    *exceptions("Ingestion", nag("L1"), PYTHON_RUNTIME),
    *exceptions(
        "Ingestion",
        (hipaa("LambdaConcurrency"), "checkov::CKV_AWS_115"),
        "The event source limits what takes from queues (MaximumConcurrency); a limit of the function would "
        "refuse messages and so use up their attempts. CloudFormation or a schedule calls the others one "
        "by one. Reserved concurrency is missing to the rest of the account.",
    ),
    *exceptions(
        "Ingestion",
        (hipaa("LambdaDLQ"), "checkov::CKV_AWS_116"),
        "A function's own dead-letter queue is for asynchronous events. Failed messages are in the "
        "dead-letter queue of each queue; CloudFormation waits for the answer of a custom resource, whose "
        "event contains a signed address that no queue should keep; a schedule comes again.",
    ),
    *exceptions(
        _policies_of("LinkSecretRole", "ReceiveRole", "IngestRole", "RemoveRole", "RedactRole"),
        hipaa("IAMNoInlinePolicy"),
        OWN_INLINE_POLICY,
    ),
    *exceptions((f"Ingestion/{function}/Platform" for function in _FUNCTIONS), ANY_RESOURCE, LAMBDA_PLATFORM),
    *exceptions(
        _policies_of("ReceiveRole"),
        wildcard(f"arn:aws:s3:::{_INBOX}/*"),
        "Other systems choose the names of raw files; the function reads any, and writes none.",
    ),
    *exceptions(
        _policies_of("ReceiveRole", "IngestRole", "RemoveRole"),
        wildcard(f"arn:aws:s3:::{DOCUMENTS_BUCKET}/documents/*"),
        "The tenant's documents, whose names are hashes of ids: the function handles any of them, and "
        "nothing outside this prefix.",
    ),
    *exceptions(
        _policies_of("IngestRole", "RemoveRole"),
        (*wildcard(f"{_DOMAIN}/*-passages-v*"), *wildcard(f"{_DOMAIN}/*-passages/_mapping")),
        "Versions of the index of passages, whose names contain the model's hash, on a domain of this "
        "tenant only. No path of the domain's security or cluster begins like that.",
    ),
    *exceptions(
        _policies_of("RedactRole"),
        wildcard(f"arn:aws:s3:::{QUARANTINE_BUCKET}/*", f"arn:aws:s3:::{CAPTURE_BUCKET}/*"),
        "SageMaker names captured objects by endpoint and time; the function reads and deletes each one and "
        "writes its clean copy under the same name. Both buckets contain nothing else.",
        decision="0020-captured-texts-are-dropped",
    ),
)
