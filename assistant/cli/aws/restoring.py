"""``assistant aws restore --rehearse``: restores a tenant's knowledge and records as they were at a moment
beside the live ones, compares them, says how long each step took, and removes the copies.

Tables come back by DynamoDB's point in time, named as the live one with ``-rehearsal-`` and the moment: by
these names a run finds what a killed one left, and goes on with its moment. Documents come back by S3's
versions, into a folder of this machine, where the pipeline of the worker builds the index anew; what is live
there is not done again. Nothing of the live tenant is written (docs/decisions/0133).
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, cast

from assistant.cli.aws.verifying import audit_of
from assistant.documents.reindexing import is_served
from assistant.documents.work import DocumentPipeline, TenantIngestion
from assistant.domain.audit import day_of
from assistant.domain.documents import Document, DocumentState, DocumentStatus, HeldContent
from assistant.domain.errors import DeploymentError, DocumentInvalidError
from assistant.process.settings import WorkerSettings
from assistant.service.opened import open_ingestion
from assistant.stores.audit import SETTLED, VerifyAudit
from assistant.stores.clients import open_clients
from assistant.stores.documents import DOCUMENTS, STATES, StoredDocuments
from assistant.stores.opened import AwsStores, open_audit
from assistant.stores.records import StoredRecords
from assistant.stores.table import Key, sortable
from assistant.tenant.deployed_names import PARTITION, RECORDS, SORT, TABLES
from assistant.tenant.manifests import CALLERS_PREFIX
from assistant.terminal.account import Deployed, aws_errors, wait_until
from assistant.terminal.terminal import GlobalOptions, Terminal

_MARK = "-rehearsal-"
_COPY = re.compile(rf"(.+){_MARK}(\d{{8}}T\d{{6}}Z)")
"""A table of a rehearsal: the live one's name, and the moment."""
_PAGE = 500
"""Documents that are read, parsed and embedded together."""
_AUDITED_DAYS = 31
_LIMIT_S = 24 * 3600.0
"""Longest wait for tables. How long a restore takes depends on the table, and only an account shows it."""
_OF_INDEX = frozenset(RECORDS.mover_updates) - {PARTITION, SORT}
"""The attributes of a record that change after it was put."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[^#]+")
"""A time in a sort key, as ``sortable`` writes it."""


_Page = Sequence[DocumentStatus]
_States = Mapping[str, DocumentStatus]


@dataclass(slots=True, kw_only=True)
class Rehearsed:
    """What a rehearsal found."""

    at: datetime
    """The moment to which everything was restored."""
    behind_s: float
    """How far DynamoDB's latest moment lay behind the begin: what a disaster then would have lost (RPO)."""
    went_on: bool
    """Whether a run that was killed was continued: then ``seconds`` has this run's part alone."""
    restored: Counter[str] = field(default_factory=Counter[str])
    """Rows by table; documents and passages that answer again; days whose audit was verified."""
    newer: Counter[str] = field(default_factory=Counter[str])
    """Rows by table that only the live one has, or has otherwise."""
    withdrawn_since: int = 0
    """Documents that answered then, and whose versions a withdrawal has deleted since."""
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    """By step."""
    findings: list[str] = field(default_factory=list[str])
    """What is not as it was."""


@dataclass(slots=True)
class Rehearsal:
    """One tenant's. ``run`` may be killed at any moment and called again."""

    deployed: Deployed
    options: GlobalOptions
    terminal: Terminal
    report: Rehearsed = field(init=False)

    def run(self, at: datetime | None) -> Rehearsed:
        """Rehearse a restore to ``at``; by default to the moment of a run that was killed, else to the latest
        one. Raises DeploymentError, before anything is done where a live table is named as a rehearsal's."""
        self.deployed.aws.require()
        resources = self.deployed.aws.resources(self.deployed.stack("Data"))
        restored = [resources[f"{each.role.title()}Table"] for each in TABLES if each.recoverable]
        left = self._left(resources.values())
        self.report = self._begin(at, restored, left.values())
        ending = f"{_MARK}{self.report.at:%Y%m%dT%H%M%SZ}"
        names = {table + ending: table for table in restored}
        self._remove(left.keys() - names)
        folder = self.options.state_dir / "rehearsals" / self.deployed.config.name
        if not self.report.went_on:
            shutil.rmtree(folder, ignore_errors=True)
        with self._timed("tables"):
            self._wait("restored", lambda: all([self._is_restored(*each) for each in names.items()]))  # noqa: C419
        asyncio.run(self._compare(resources, ending, folder))
        with self._timed("removal"):
            self._remove(names)
            shutil.rmtree(folder)
        return self.report

    # --- the tables ---------------------------------------------------------------------------------------
    def _left(self, live: Collection[str]) -> Mapping[str, datetime]:
        """Return the tables of rehearsals with their moments. Raises DeploymentError where one is live."""
        listed = map(str, self.deployed.aws.listed("dynamodb", "list_tables", "TableNames"))
        matches = [(name, _COPY.fullmatch(name)) for name in listed]
        left = {name: datetime.fromisoformat(of[2]) for name, of in matches if of and of[1] in live}
        if wrong := left.keys() & live:
            raise DeploymentError(f"{wrong} is live, and named as a rehearsal's: nothing was done.")
        return left

    def _begin(self, at: datetime | None, tables: Collection[str], left: Collection[datetime]) -> Rehearsed:
        backups = [self._dynamodb("describe_continuous_backups", TableName=table) for table in tables]
        windows = [each["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"] for each in backups]
        now = datetime.now(UTC)  # where recovery is off: DynamoDB then refuses, and says so
        latest = min(window.get("LatestRestorableDateTime", now) for window in windows)
        moment = (at or max(left, default=latest)).astimezone(UTC).replace(microsecond=0)
        behind_s = round((now - latest).total_seconds(), 1)
        return Rehearsed(at=moment, behind_s=behind_s, went_on=moment in left)

    def _is_restored(self, name: str, table: str) -> bool:
        """Begin to restore a table that is not there; return whether it is ready. One that a killed run was
        deleting goes first."""
        if not self._described(name):
            key = self._described(table)["SSEDescription"]["KMSMasterKeyArn"]
            given = {"SourceTableName": table, "TargetTableName": name, "RestoreDateTime": self.report.at}
            encryption = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key}
            self._dynamodb("restore_table_to_point_in_time", **given, SSESpecificationOverride=encryption)
        copy = self._described(name)
        if is_ready := copy.get("TableStatus") == "ACTIVE":
            tags = [{"Key": "tenant", "Value": self.deployed.config.name}]  # so that a destruction lists it
            self._dynamodb("tag_resource", ResourceArn=copy["TableArn"], Tags=tags)
        return is_ready

    def _remove(self, names: Collection[str]) -> None:
        for name in names:
            self._dynamodb("delete_table", TableName=name)
        self._wait("deleted", lambda: not any(map(self._described, names)))

    def _wait(self, what: str, is_over: Callable[[], bool]) -> None:
        wait_until(f"tables are being {what}", is_over, poll_s=10.0, limit_s=_LIMIT_S)

    def _described(self, table: str) -> Mapping[str, Any]:
        return cast("Any", self._dynamodb("describe_table", TableName=table) or {"Table": {}})["Table"]

    def _dynamodb(self, call: str, **given: Any) -> Any:
        return self.deployed.aws.call("dynamodb", call, missing="ResourceNotFoundException", **given)

    @contextmanager
    def _timed(self, step: str) -> Generator[None]:
        self.terminal.step(f"{step}, as of {self.report.at:%Y-%m-%d %H:%M:%S} UTC")
        began_s = time.monotonic()
        yield
        self.report.seconds[step] = round(time.monotonic() - began_s, 1)

    # --- what came back -----------------------------------------------------------------------------------
    async def _compare(self, resources: Mapping[str, str], ending: str, folder: Path) -> None:
        with self._timed("documents and index"):
            await self._documents(resources, ending, folder)
        audit, report = audit_of(self.deployed), self.report
        restored = audit.model_copy(update={"records_table": audit.records_table + ending})
        async with open_audit(audit) as now, open_audit(restored) as then:
            with self._timed("records"):
                for role in ("records", "desk"):
                    await self._rows(role, resources[f"{role.title()}Table"], ending, now.records)
            with self._timed("audit"):
                last = day_of(report.at - SETTLED) - timedelta(days=1)
                first = last - timedelta(days=min(_AUDITED_DAYS, audit.kept_days) - 1)
                verified = await VerifyAudit(then.records, then.digests).run(first, last)
                report.restored["audited days"] = verified.days
                report.findings += [f"audit {each.day}: {each.said}" for each in verified.findings]

    async def _rows(self, role: str, live: str, ending: str, records: StoredRecords) -> None:
        """Compare two tables by digests of their rows, about 300 bytes of memory each. Records are put once;
        at the desk some rows are put again, so one that differs may be newer."""
        left, say = {key: _digest(item) for key, item in self._rows_of(live + ending)}, self._say
        self.report.restored[role] = len(left)
        for key, item in self._rows_of(live):
            restored, digest = left.pop(key, None), _digest(item)
            self.report.newer[role] += restored != digest
            if restored is None:
                written = _TIME.findall(key[1])
                if key[1] == "answer" and (answer := await records.find_answer(key[0].partition("#")[2])):
                    written = [sortable(answer.record.finished_at)]
                if written and written[0] < sortable(self.report.at - SETTLED):
                    say(role, key, "it is older, and not restored")
            elif restored != digest and role == "records":
                say(role, key, "it is restored with other content")
        for key in left:
            say(role, key, "it is restored, and the live table lacks it")

    def _rows_of(self, table: str) -> Iterator[tuple[Key, Mapping[str, Any]]]:
        with aws_errors("dynamodb", "scan"):
            scan = self.deployed.aws.client("dynamodb").get_paginator("scan")
            for page in scan.paginate(TableName=table, ConsistentRead=True):
                for item in page["Items"]:
                    yield (item[PARTITION]["S"], item[SORT]["S"]), item

    async def _documents(self, resources: Mapping[str, str], ending: str, folder: Path) -> None:
        given: dict[str, Any] = {"state_dir": folder, "model_artifacts_dir": folder / "models"}
        given |= {"tenants_dir": self.options.tenants_dir, "only_tenants": (self.deployed.config.name,)}
        given |= {"model_artifacts_s3": f"s3://{resources['ModelsBucket']}/{CALLERS_PREFIX}"}
        given |= {"documents_bucket": resources["DocumentsBucket"], "states_table": resources["StatesTable"]}
        settings = WorkerSettings.read(**given, region=self.deployed.place.region)
        rows = (item for _, item in self._rows_of(settings.states_table + ending) if "content_hash" in item)
        statuses = (DocumentStatus.model_validate_json(item["body"]["S"]) for item in rows)
        async with open_clients(settings) as clients, open_ingestion(settings) as (copy,):
            live = AwsStores(clients, settings, stack=clients.stack)
            while page := [*islice(statuses, _PAGE)]:
                now = await (await live.of(STATES)).get_many([each.document_id for each in page])
                await self._bring(page, now, copy, await live.of(DOCUMENTS))
                await self._check(page, now, copy)
                self.report.restored["states"] += len(page)
                self.terminal.step(f"{self.report.restored['states']} documents are compared")

    async def _bring(self, page: _Page, now: _States, copy: TenantIngestion, kept: StoredDocuments) -> None:
        """Bring back what answered, unless it is there, and index it."""
        served = {each.document_id: each for each in page if is_served(each)}
        there = await copy.stores.states.get_many([*served])
        new = [status for name, status in served.items() if name not in there]
        found = await asyncio.gather(*(_whole(status, kept) for status in new))
        for status, document in zip(new, found, strict=True):
            if document is not None:
                await copy.stores.documents.put(document)
                begin = {"state": DocumentState.RECEIVED, "content_hash": status.live_content_hash}
                await copy.stores.states.put_many([status.model_copy(update=begin)])
            elif (today := now.get(status.document_id)) and today.state is DocumentState.WITHDRAWN:
                self.report.withdrawn_since += 1
            else:
                self._say("document", status.document_id, "no whole version has the content that answered")
        await DocumentPipeline(copy).process([*served])

    async def _check(self, page: _Page, now: _States, copy: TenantIngestion) -> None:
        """Note each document that does not come back as it was."""
        names = [status.document_id for status in page]
        built, held = await copy.stores.states.get_many(names), await copy.index.contents(names)
        for status, name in zip(page, names, strict=True):
            today, new = now.get(name), built.get(name)
            self.report.newer["states"] += today != status
            if today != status and (today is None or today.updated_at < self.report.at - SETTLED):
                self._say("document", name, f"it comes back {status.state}, and has long been otherwise")
            if new is not None:
                self.report.restored.update(documents=1, passages=new.passage_count)
                as_it_was = HeldContent(str(status.live_content_hash), status.passage_count)
                if held.get(name) != as_it_was or new.live_labels != status.live_labels:
                    why = new.failure_reason or f"{new.passage_count} passages, not {status.passage_count}"
                    self._say("document", name, f"its index is not as it was: {why}")

    def _say(self, what: str, key: object, said: str) -> None:
        self.report.findings.append(f"{what} {key}: {said}.")


def _digest(item: Mapping[str, Any]) -> bytes:
    return sha256(repr(sorted(pair for pair in item.items() if pair[0] not in _OF_INDEX)).encode()).digest()


async def _whole(status: DocumentStatus, documents: StoredDocuments) -> Document | None:
    """Return the content that answered, by the hash of all its fields: the newest version, or one before it.
    None where no kept one is whole, with the file that it was converted from."""
    name, content = status.document_id, str(status.live_content_hash)
    with suppress(DocumentInvalidError):
        document = await documents.get(name)
        if document is None or content not in document.content_hashes():
            kept = [each.document for each in await documents.contents(name)]
            document = next((each for each in kept if content in each.content_hashes()), None)
        original = None if document is None else document.original
        if original is None or await documents.read_original(name, original, start=0):
            return document
    return None
