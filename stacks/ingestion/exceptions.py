"""Findings that stay in the ingestion stack, each with its reason."""

from __future__ import annotations

from stacks.policy import Acknowledgement

_DATA = '{"Fn::GetStackOutput":{"StackName":"{stage}-Data","Region":"{region}","OutputName":"%s"}}'
_INBOX = _DATA % "PublishOutputRefInboxBucketFE28DFA5"
_DOCUMENTS = _DATA % "PublishOutputRefDocumentsBucketC67A8896"
_QUARANTINE = _DATA % "PublishOutputRefQuarantineBucket320A5204"
_CAPTURE = _DATA % "PublishOutputRefCaptureBucket9F69268F"
_DOMAIN = _DATA % "PublishOutputFnGetAttSearchArn29A45148"
_ROLES = ("LinkSecretRole", "ReceiveRole", "IngestRole", "RemoveRole", "RedactRole")
_INDEX_ROLES = ("IngestRole", "RemoveRole")


def _any_of(bucket: str, prefix: str = "") -> str:
    return f"AwsSolutions::AwsSolutions-IAM5[Resource::arn:aws:s3:::{bucket}/{prefix}*]"


EXCEPTIONS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Ingestion",
        findings=("AwsSolutions::AwsSolutions-L1",),
        reason=(
            "Python 3.13 is the newest that this package supports and is tested with; Lambda runs it until "
            "2029-06-30 (Lambda Developer Guide, runtimes)."
        ),
    ),
    Acknowledgement(
        construct="Ingestion",
        findings=("HIPAA.Security::HIPAA.Security-LambdaConcurrency", "checkov::CKV_AWS_115"),
        reason=(
            "What takes from queues is bounded by its event source (MaximumConcurrency); a bound of the "
            "function would refuse messages and so use up their attempts. The others are called one by one, "
            "by CloudFormation or a schedule. What is reserved is missing to the rest of the account."
        ),
    ),
    Acknowledgement(
        construct="Ingestion",
        findings=("HIPAA.Security::HIPAA.Security-LambdaDLQ", "checkov::CKV_AWS_116"),
        reason=(
            "A function's own dead letters are those of asynchronous events. Those of messages are in the "
            "DLQ of each queue; CloudFormation waits for the answer of a custom resource, whose event has a "
            "signed address that no queue should keep; a schedule comes again."
        ),
    ),
    *(
        Acknowledgement(
            construct=f"Ingestion/{role}/DefaultPolicy",
            findings=("HIPAA.Security::HIPAA.Security-IAMNoInlinePolicy",),
            reason=(
                "The rights of exactly this role, made and deleted with it. A managed policy could be "
                "attached to another role by whoever may attach policies."
            ),
        )
        for role in _ROLES
    ),
    *(
        Acknowledgement(
            construct=f"Ingestion/{function}/Platform",
            findings=("AwsSolutions::AwsSolutions-IAM5[Resource::*]", "checkov::CKV_AWS_111"),
            reason=(
                "Lambda makes network interfaces with the function's role; those actions and X-Ray's know no "
                "resources (Service Authorization Reference). The function's own code is denied the former."
            ),
        )
        for function in (
            "LinkSecret",
            "Documents/Receive",
            "Documents/Ingest",
            "Documents/Withdraw",
            "Documents/Purge",
            "Redaction/Redact",
            "Redaction/Sweep",
        )
    ),
    Acknowledgement(
        construct="Ingestion/ReceiveRole/DefaultPolicy",
        findings=(_any_of(_INBOX),),
        reason="Raw files have the names that other systems give them; the function reads any, writes none.",
    ),
    *(
        Acknowledgement(
            construct=f"Ingestion/{role}/DefaultPolicy",
            findings=(_any_of(_DOCUMENTS, "documents/"),),
            reason=(
                "The tenant's documents, whose names are hashes of ids: the function handles any of them, "
                "and nothing outside this prefix."
            ),
        )
        for role in ("ReceiveRole", *_INDEX_ROLES)
    ),
    *(
        Acknowledgement(
            construct=f"Ingestion/{role}/DefaultPolicy",
            findings=(f"AwsSolutions::AwsSolutions-IAM5[Resource::{_DOMAIN}/*-passages-v*]",),
            reason=(
                "Versions of the index of passages, whose names hold the model's hash, on a domain that is "
                "this tenant's alone. No path of the domain's security or cluster begins so."
            ),
        )
        for role in _INDEX_ROLES
    ),
    Acknowledgement(
        construct="Ingestion/RedactRole/DefaultPolicy",
        findings=(_any_of(_QUARANTINE), _any_of(_CAPTURE)),
        reason=(
            "SageMaker names captured objects by endpoint and time; each is read and deleted, and its clean "
            "copy has the same name. Both buckets hold nothing else."
        ),
        decision="0020-captured-texts-are-dropped",
    ),
)
