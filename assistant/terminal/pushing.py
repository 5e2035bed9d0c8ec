"""Files for the inbox of a deployed tenant, put from outside of its network: ``assistant knowledge push``.

The caller needs nothing but to assume the pusher's role of a source. What became of each file lies in the
inbox too, by the version that S3 gave the file.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import boto3

from assistant.documents.files import files_of, skipped_files
from assistant.documents.receive import pushed_result
from assistant.domain.documents import UploadRefusal, UploadResult
from assistant.domain.errors import ConfigurationError, DeploymentError, DocumentInvalidError
from assistant.terminal.account import Deployed, aws_errors
from assistant.terminal.loading import Show, SourceFolders

_POLL_S = 1.0
_COUNTS = ("added", "changed", "unchanged", "withdrawn", "waiting", "refused")


@dataclass(slots=True)
class PushReport:
    """What became of the files of a push."""

    files: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    """Of documents: added, changed, unchanged, withdrawn; waiting for a second person; refused."""
    refusals: list[str] = field(default_factory=list[str])
    """A line for each refused file or document, with the reason."""
    unread: list[str] = field(default_factory=list[str])
    """Files that were put, and of which nothing is known yet."""
    notes: list[str] = field(default_factory=list[str])
    """What of a file was not read: a scanned page, a hidden sheet."""
    skipped: list[str] = field(default_factory=list[str])
    """Files of a kind that is not read: they were not put."""
    seconds: float = 0.0

    def include(self, name: str, result: UploadResult) -> None:
        for count in _COUNTS:
            self.counts[count] += getattr(result, count)
        self.refusals += map(_said, result.refusals)
        if (more := result.refused - len(result.refusals)) > 0:
            self.refusals.append(f"{name}: and {more:,} more")
        self.notes += [f"{name}: {note}" for note in result.notes]


def push(deployed: Deployed, folders: Sequence[SourceFolders], *, show: Show, wait_s: float) -> PushReport:
    """Put all files of the folders, and wait until each is read; ``wait_s`` is how long no file may be read
    until the rest is given up, which the report names.

    Raises ConfigurationError for a source without pushers, before anything is put; DeploymentError, also
    where the caller may not assume the role.
    """
    began_s, report, put = time.monotonic(), PushReport(), list[tuple[Inbox, str, str]]()
    inboxes = [Inbox.of(deployed, folder) for folder in folders]
    for inbox in inboxes:
        report.skipped += skipped_files(inbox.folder.paths)
        for key, version in inbox.put(report):
            put.append((inbox, key, version))
            show(len(put), 0)
    ends = time.monotonic() + wait_s
    for done, (inbox, key, version) in enumerate(put):
        show(done, len(put))
        while (result := inbox.result(key, version)) is None and time.monotonic() < ends:
            time.sleep(_POLL_S)
        if result is None:
            report.unread.append(key)
        else:
            ends = time.monotonic() + wait_s
            report.include(key, result)
    report.files, report.seconds = len(put), time.monotonic() - began_s
    return report


@dataclass(frozen=True, slots=True)
class Inbox:
    """The inbox, by the role of one source's pushers, for an hour at most."""

    folder: SourceFolders
    s3: Any
    bucket: str

    @classmethod
    def of(cls, deployed: Deployed, folder: SourceFolders) -> Inbox:
        """Assume the role. Raises ConfigurationError, DeploymentError."""
        place, tenant, source = deployed.place, deployed.config.name, folder.source.name
        if source not in place.pushers:
            raise ConfigurationError(
                f'Nobody may push files of the source "{source}": name a role in deployment.pushers, and '
                "deploy."
            )
        partition = cast("Any", boto3).Session().get_partition_for_region(place.region)
        path = f"{place.role_path}{tenant}/{place.pusher(tenant, source)}"
        pusher = deployed.aws.as_role(f"arn:{partition}:iam::{place.account}:role{path}")
        name = place.inbox_parameter(tenant)
        if (bucket := pusher.parameter(name)) is None:
            raise DeploymentError(f"There is no parameter {name}: deploy.")
        return cls(folder, pusher.client("s3"), bucket)

    def put(self, report: PushReport) -> Iterator[tuple[str, str]]:
        """Put each file; yield key and version. What is no regular file below its folder is refused."""
        for path, name, is_inside in files_of(self.folder.paths):
            if not (is_inside and path.is_file() and name.isprintable()):
                reason = "not put: a link out of its folder, no regular file, or a name that is not text"
                refused = UploadRefusal(origin=ascii(name), code=DocumentInvalidError.code, reason=reason)
                report.include(name, UploadResult(refused=1, refusals=(refused,)))
                continue
            key = f"{self.folder.source.name}/{name}"
            with aws_errors("s3", "put_object"), path.open("rb") as body:
                done = self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, ChecksumAlgorithm="SHA256")
            yield key, str(done["VersionId"])

    def result(self, key: str, version: str) -> UploadResult | None:
        """Return what became of a file; None while it is not read."""
        place = pushed_result(key, version)
        with aws_errors("s3", "list_objects_v2"):
            if not self.s3.list_objects_v2(Bucket=self.bucket, Prefix=place).get("KeyCount"):
                return None
            body = self.s3.get_object(Bucket=self.bucket, Key=place)["Body"].read()
        return UploadResult.model_validate_json(body)


def _said(refusal: UploadRefusal) -> str:
    return f"{refusal.origin}: {refusal.reason} ({refusal.code})"
