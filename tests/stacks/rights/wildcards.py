"""Every wildcard of every policy, and its reason: a row of ``stacks.validators`` for identities' policies,
and a row here for policies of stores, keys, roles and endpoints.

Only Allow statements count: in a Deny a wildcard denies more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stacks.policy import pattern_of
from stacks.validators import TABLE
from tests.stacks.rights.requests import listed

_IDENTITY = ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy")
_OF_STORES = {
    "AWS::EC2::VPCEndpoint": "PolicyDocument",
    "AWS::ECR::Repository": "RepositoryPolicyText",
    "AWS::IAM::Role": "AssumeRolePolicyDocument",
    "AWS::KMS::Key": "KeyPolicy",
    "AWS::OpenSearchService::Domain": "AccessPolicies",
    "AWS::S3::BucketPolicy": "PolicyDocument",
    "AWS::SNS::TopicPolicy": "PolicyDocument",
    "AWS::SQS::QueuePolicy": "PolicyDocument",
    "AWS::SecretsManager::ResourcePolicy": "ResourcePolicy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wildcard:
    """``construct`` is a path below the stage."""

    stage: str
    construct: str
    kind: str
    element: str
    """``Action``, ``Resource``, ``Principal``, or the whole ``NotAction`` and ``NotResource``."""
    pattern: str

    def __str__(self) -> str:
        return f"{self.stage}/{self.construct}: {self.element} {self.pattern}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    kind: str
    element: str
    pattern: str
    """A regular expression."""
    reason: str
    construct: str | None = None
    """Where alone it holds."""


EXPLAINED = (
    Explained(
        kind="AWS::KMS::Key",
        element="Resource",
        pattern=r"\*",
        reason="In a key's policy the one key that has it.",
    ),
    Explained(
        kind="AWS::KMS::Key",
        element="Action",
        pattern=r"kms:(GenerateDataKey|ReEncrypt|Encrypt|Decrypt|Describe)\*",
        reason="The variants of one use (…WithoutPlaintext, …Pair; ReEncryptFrom and To), as KMS documents.",
    ),
    Explained(
        kind="AWS::KMS::Key",
        element="Action",
        pattern=r"kms:(Delete|Describe|Disable|Enable|Get|List|Put|Revoke|Update)\*",
        reason="Administration as KMS documents it, without Create*: it neither uses the key nor grants it.",
    ),
    Explained(
        kind="AWS::KMS::Key",
        element="Action",
        pattern=r"kms:\*",
        reason="The account's own key, of images and the budget's topic: it leaves all to identities.",
        construct="Account/AccountKey/Resource",
    ),
    Explained(
        kind="AWS::OpenSearchService::Domain",
        element="Action",
        pattern=r"es:ESHttp\*",
        reason="All methods, for the one master of the domain.",
    ),
    Explained(
        kind="AWS::OpenSearchService::Domain",
        element="Resource",
        pattern=r"arn:aws:es:[^:]+:\d+:domain/\*",
        reason="In a domain's policy the one domain that has it; its name is generated.",
    ),
    Explained(
        kind="AWS::S3::BucketPolicy",
        element="Resource",
        pattern=r"<(LogsBucket\.Arn>/(s3|\*/AWSLogs/\d+)|TrailBucket\.Arn>/cloudtrail/AWSLogs/\d+)/\*",
        reason="Where AWS's log delivery names its objects by date, below a folder by account.",
    ),
    Explained(
        kind="AWS::EC2::VPCEndpoint",
        element="Principal",
        pattern=r"\*",
        reason="Endpoint policies take no other: a condition holds it to the tenant, or the resource to AWS.",
    ),
    Explained(
        kind="AWS::EC2::VPCEndpoint",
        element="Resource",
        pattern=r".*\*.*",
        reason="A condition holds it to the tenant's account; buckets of AWS are named up to their objects.",
    ),
)


def unexplained(*assemblies: Path) -> list[Wildcard]:
    """Return the wildcards without a reason."""
    found = [wildcard for assembly in assemblies for wildcard in wildcards_of(assembly)]
    return [wildcard for wildcard in found if not _is_explained(wildcard)]


def wildcards_of(assembly: Path) -> Iterator[Wildcard]:
    for manifest in sorted(assembly.glob("assembly-*/manifest.json")):
        artifacts = json.loads(manifest.read_text(encoding="utf-8"))["artifacts"]
        for artifact in artifacts.values():
            if artifact["type"] == "aws:cloudformation:stack":
                stage = artifact["properties"]["stackName"].rpartition("-")[0]
                yield from _of_stack(manifest.parent / artifact["properties"]["templateFile"], stage)


def _of_stack(path: Path, stage: str) -> Iterator[Wildcard]:
    template = json.loads(path.read_text(encoding="utf-8"))
    paths = _construct_paths(path.with_name(path.name.replace(".template.", ".metadata.")))
    for logical_id, resource in template["Resources"].items():
        kind, has = resource["Type"], resource.get("Properties", {})
        documents = [policy["PolicyDocument"] for policy in has.get("Policies", [])] * (
            kind == "AWS::IAM::Role"
        )
        if kind in _IDENTITY:
            documents.append(has["PolicyDocument"])
        for document in documents:
            yield from _of_document(document, stage, paths[logical_id], kind="identity")
        document = has.get(_OF_STORES.get(kind, ""))
        if document is not None:
            yield from _of_document(document, stage, paths[logical_id], kind=kind)


def _construct_paths(metadata: Path) -> dict[str, str]:
    entries = json.loads(metadata.read_text(encoding="utf-8"))
    return {
        entry["data"]: path.removeprefix("/").partition("/")[2]
        for path, list_of in entries.items()
        for entry in list_of
        if entry["type"] == "aws:cdk:logicalId"
    }


def _of_document(document: Mapping[str, Any], stage: str, construct: str, *, kind: str) -> Iterator[Wildcard]:
    for statement in listed(document["Statement"]):
        if statement["Effect"] != "Allow":
            continue
        for element in ("Action", "Resource", "Principal", "NotAction", "NotResource"):
            for pattern in _patterns(statement.get(element, [])):
                if "*" in pattern or "?" in pattern or element.startswith("Not"):
                    yield Wildcard(
                        stage=stage, construct=construct, kind=kind, element=element, pattern=pattern
                    )


def _patterns(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and not any(key.startswith(("Fn::", "Ref")) for key in value):
        for part in value.values():
            yield from _patterns(part)
    else:
        yield from (flat(part) for part in listed(value))


def flat(value: Any) -> str:
    """Return a reference as cdk-nag writes it in its findings: ``<Bucket.Arn>/*``."""
    if isinstance(value, str):
        return value.replace("${", "<").replace("}", ">")
    match value:
        case {"Fn::Join": [delimiter, parts]}:
            return delimiter.join(map(flat, parts))
        case {"Fn::GetAtt": [resource, attribute]}:
            return f"<{resource}.{attribute}>"
        case {"Ref": name}:
            return f"<{name}>"
        case _:
            return json.dumps(value, separators=(",", ":"))


def _is_explained(wildcard: Wildcard) -> bool:
    if wildcard.kind == "identity":
        finding = f"AwsSolutions::AwsSolutions-IAM5[{wildcard.element}::{wildcard.pattern}]"
        return any(
            (wildcard.construct == row.construct or wildcard.construct.startswith(f"{row.construct}/"))
            and any(pattern_of(explained).fullmatch(finding) for explained in row.findings)
            for rows in TABLE.values()
            for row in rows
        )
    return any(
        (row.kind, row.element) == (wildcard.kind, wildcard.element)
        and re.fullmatch(row.pattern, wildcard.pattern)
        and row.construct in (None, wildcard.construct)
        for row in EXPLAINED
    )
