"""``assistant aws restore --rehearse``: restores copies of a tenant's knowledge and records as of a moment,
compares them with the live ones, reports how long each step took, and removes the copies.

Tables are restored by DynamoDB's point-in-time recovery. A copy's name is the live one's with the moment:
``Records-rehearsal-20261128T090000Z``. By these names a run finds the copies of a killed run, and goes on
with its moment. Documents are read from S3's versions into a folder of this machine, where the worker's
pipeline builds the index again; documents that are live there are skipped. Nothing of the live tenant is
written (docs/decisions/0133).
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
from assistant.terminal.account import Deployed, wait_until
from assistant.terminal.terminal import GlobalOptions, Terminal

_MARK = "-rehearsal-"
_COPY = re.compile(rf"(.+){_MARK}(\d{{8}}T\d{{6}}Z)")
"""Name of a copy: ``Records-rehearsal-20261128T090000Z``. Groups: the live table's name, and the moment."""
_PAGE = 500
"""Documents that are read, parsed and embedded together."""
_AUDITED_DAYS = 31
"""Most days whose audit is verified, counted back from the moment."""
_LIMIT_S = 24 * 3600.0
"""Longest wait for tables. How long a restore takes depends on the table, and only an account shows it."""
_OF_INDEX = frozenset(RECORDS.mover_updates) - {PARTITION, SORT}
"""Attributes of an item that change after it was put: a digest leaves them out."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[^#]+")
"""A time in a sort key, as ``sortable`` writes it."""


_Page = Sequence[DocumentStatus]
_States = Mapping[str, DocumentStatus]


@dataclass(slots=True, kw_only=True)
class Rehearsed:
    """The report of a rehearsal. ``findings`` is empty where everything was restored as it was."""

    at: datetime
    """The moment to which everything was restored."""
    behind_s: float
    """Seconds between DynamoDB's latest restorable moment and the begin of the run: what a disaster at the
    begin would have lost (RPO)."""
    went_on: bool
    """Whether this run continued a killed one; then ``seconds`` covers this run alone."""
    restored: Counter[str] = field(default_factory=Counter[str])
    """What was restored, by its kind: ``{"records": 812, "desk": 4, "states": 90, "documents": 88,
    "passages": 940, "audited days": 31}``."""
    newer: Counter[str] = field(default_factory=Counter[str])
    """Rows by table that only the live table has, or has with other content."""
    withdrawn_since: int = 0
    """Documents that answered at the moment, and that were withdrawn after it, so that their text is
    deleted."""
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    """Duration of each step by its name: ``tables``, ``documents and index``, …"""
    findings: list[str] = field(default_factory=list[str])
    """A sentence for each row, document or day of the audit that is not as it was."""


@dataclass(slots=True)
class Rehearsal:
    """The rehearsal of one tenant. ``run`` may be killed at any moment and called again."""

    deployed: Deployed
    options: GlobalOptions
    terminal: Terminal
    report: Rehearsed = field(init=False)

    def run(self, at: datetime | None) -> Rehearsed:
        """Rehearse a restore to ``at``; by default to the moment of a killed run, else to the latest one.

        Raises DeploymentError; where a live table is named like a copy, before anything is done.
        """
        self.deployed.aws.require()
        resources = self.deployed.aws.resources(self.deployed.stack("Data"))
        tables = [resources[f"{table.role.title()}Table"] for table in TABLES if table.recoverable]
        old_copies = self._left(resources.values())
        self.report = self._begin(at, tables, old_copies.values())
        ending = f"{_MARK}{self.report.at:%Y%m%dT%H%M%SZ}"
        copies = {table + ending: table for table in tables}
        self._remove(old_copies.keys() - copies)
        folder = self.options.state_dir / "rehearsals" / self.deployed.config.name
        if not self.report.went_on:
            shutil.rmtree(folder, ignore_errors=True)
        with self._timed("tables"):  # a list, not a generator: all restores begin at once
            self._wait("restored", lambda: all([self._is_restored(*pair) for pair in copies.items()]))  # noqa: C419
        asyncio.run(self._compare(resources, ending, folder))
        with self._timed("removal"):
            self._remove(copies)
            shutil.rmtree(folder)
        return self.report

    # --- the tables ---------------------------------------------------------------------------------------
    def _left(self, live: Collection[str]) -> Mapping[str, datetime]:
        """Return the existing copies of the live tables, with their moments. Raises DeploymentError where a
        live table has the name of a copy."""
        listed = map(str, self.deployed.aws.listed("dynamodb", "list_tables", "TableNames"))
        matches = [(name, _COPY.fullmatch(name)) for name in listed]
        copies = {name: datetime.fromisoformat(hit[2]) for name, hit in matches if hit and hit[1] in live}
        if clashing := copies.keys() & live:
            raise DeploymentError(f"{clashing} is live, and named as a rehearsal's: nothing was done.")
        return copies

    def _begin(self, at: datetime | None, tables: Collection[str], made: Collection[datetime]) -> Rehearsed:
        """Return an empty report with the moment to restore to. ``made``: the moments of copies that
        exist."""
        backups = [self._dynamodb("describe_continuous_backups", TableName=table) for table in tables]
        windows = [item["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"] for item in backups]
        now = datetime.now(UTC)  # for a table without recovery: DynamoDB refuses to restore it, and says why
        latest = min(window.get("LatestRestorableDateTime", now) for window in windows)
        moment = (at or max(made, default=latest)).astimezone(UTC).replace(microsecond=0)
        behind_s = round((now - latest).total_seconds(), 1)
        return Rehearsed(at=moment, behind_s=behind_s, went_on=moment in made)

    def _is_restored(self, name: str, table: str) -> bool:
        """Begin to restore ``table`` as the copy ``name``, unless it exists; return whether the copy is
        ready.

        Polled by ``_wait``. A copy that a killed run was deleting exists until it is gone.
        """
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
        """Delete these copies, and wait until they are gone."""
        for name in names:
            self._dynamodb("delete_table", TableName=name)
        self._wait("deleted", lambda: not any(map(self._described, names)))

    def _wait(self, what: str, is_over: Callable[[], bool]) -> None:
        wait_until(f"tables are being {what}", is_over, poll_s=10.0, limit_s=_LIMIT_S)

    def _described(self, table: str) -> Mapping[str, Any]:
        """Return DynamoDB's description of a table; an empty one where there is no such table."""
        return cast("Any", self._dynamodb("describe_table", TableName=table) or {"Table": {}})["Table"]

    def _dynamodb(self, call: str, **given: Any) -> Any:
        return self.deployed.aws.call("dynamodb", call, missing="ResourceNotFoundException", **given)

    @contextmanager
    def _timed(self, step: str) -> Generator[None]:
        """Show a step, and note its duration in the report."""
        self.terminal.step(f"{step}, as of {self.report.at:%Y-%m-%d %H:%M:%S} UTC")
        began_s = time.monotonic()
        yield
        self.report.seconds[step] = round(time.monotonic() - began_s, 1)

    # --- what came back -----------------------------------------------------------------------------------
    async def _compare(self, resources: Mapping[str, str], ending: str, folder: Path) -> None:
        """Rebuild documents in ``folder``, then compare records and desk, and verify the audit of the copy.

        ``resources``: physical ids of the data stack; ``ending``: what the names of copies end in.
        """
        with self._timed("documents and index"):
            await self._documents(resources, ending, folder)
        audit, report = audit_of(self.deployed), self.report
        restored = audit.model_copy(update={"records_table": audit.records_table + ending})
        async with open_audit(audit) as live_audit, open_audit(restored) as copied_audit:
            with self._timed("records"):
                for role in ("records", "desk"):
                    await self._rows(role, resources[f"{role.title()}Table"], ending, live_audit.records)
            with self._timed("audit"):
                last = day_of(report.at - SETTLED) - timedelta(days=1)
                first = last - timedelta(days=min(_AUDITED_DAYS, audit.kept_days) - 1)
                verified = await VerifyAudit(copied_audit.records, copied_audit.digests).run(first, last)
                report.restored["audited days"] = verified.days
                report.findings += [f"audit {item.day}: {item.said}" for item in verified.findings]

    async def _rows(self, role: str, live: str, ending: str, records: StoredRecords) -> None:
        """Compare a copy with its live table by digests of their rows, about 300 bytes of memory each.

        Rows of records are put once, so one with other content is a finding. Rows of the desk may be put
        again, so they count as newer. A row that the copy lacks is a finding only where it was written an
        hour (``SETTLED``) or more before the moment.
        """
        copied, say = {key: _digest(item) for key, item in self._rows_of(live + ending)}, self._note
        self.report.restored[role] = len(copied)
        for key, item in self._rows_of(live):
            old, digest = copied.pop(key, None), _digest(item)
            self.report.newer[role] += old != digest
            if old is None:
                written_at = _TIME.findall(key[1])
                if key[1] == "answer" and (answer := await records.find_answer(key[0].partition("#")[2])):
                    written_at = [sortable(answer.record.finished_at)]
                if written_at and written_at[0] < sortable(self.report.at - SETTLED):
                    say(role, key, "it is older, and not restored")
            elif old != digest and role == "records":
                say(role, key, "it is restored with other content")
        for key in copied:
            say(role, key, "it is restored, and the live table lacks it")

    def _rows_of(self, table: str) -> Iterator[tuple[Key, Mapping[str, Any]]]:
        """Yield key and item (in DynamoDB's JSON) of each row of a table."""
        for page in self.deployed.aws.pages("dynamodb", "scan", TableName=table, ConsistentRead=True):
            for item in page["Items"]:
                yield (item[PARTITION]["S"], item[SORT]["S"]), item

    async def _documents(self, resources: Mapping[str, str], ending: str, folder: Path) -> None:
        """Bring the documents of the copied states back into stores in ``folder``, a page at a time, and
        check them.

        Rows of the states' table without ``content_hash`` are no documents.
        """
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
                now = await (await live.of(STATES)).get_many([status.document_id for status in page])
                await self._bring(page, now, copy, await live.of(DOCUMENTS))
                await self._check(page, now, copy)
                self.report.restored["states"] += len(page)
                self.terminal.step(f"{self.report.restored['states']} documents are compared")

    async def _bring(self, page: _Page, now: _States, copy: TenantIngestion, kept: StoredDocuments) -> None:
        """Store the documents of a page that answered at the moment, unless they are stored, and index them.

        ``page``: states at the moment; ``now``: live states; ``copy``: the stores on this machine; ``kept``:
        the live documents with their versions.
        """
        answered = {status.document_id: status for status in page if is_served(status)}
        stored = await copy.stores.states.get_many([*answered])
        new = [status for name, status in answered.items() if name not in stored]
        documents = await asyncio.gather(*(_answering_content(status, kept) for status in new))
        for status, document in zip(new, documents, strict=True):
            if document is not None:
                await copy.stores.documents.put(document)
                update = {"state": DocumentState.RECEIVED, "content_hash": status.live_content_hash}
                await copy.stores.states.put_many([status.model_copy(update=update)])
            elif (today := now.get(status.document_id)) and today.state is DocumentState.WITHDRAWN:
                self.report.withdrawn_since += 1
            else:
                self._note("document", status.document_id, "no whole version has the content that answered")
        await DocumentPipeline(copy).process([*answered])

    async def _check(self, page: _Page, now: _States, copy: TenantIngestion) -> None:
        """Add a finding for each document that was not restored as it was. A live state that differs only
        counts as newer, unless it was changed more than an hour before the moment."""
        names = [status.document_id for status in page]
        built, indexed = await copy.stores.states.get_many(names), await copy.index.contents(names)
        for status, name in zip(page, names, strict=True):
            live, new = now.get(name), built.get(name)
            self.report.newer["states"] += live != status
            if live != status and (live is None or live.updated_at < self.report.at - SETTLED):
                self._note("document", name, f"it comes back {status.state}, and has long been otherwise")
            if new is not None:
                self.report.restored.update(documents=1, passages=new.passage_count)
                as_it_was = HeldContent(str(status.live_content_hash), status.passage_count)
                if indexed.get(name) != as_it_was or new.live_labels != status.live_labels:
                    why = new.failure_reason or f"{new.passage_count} passages, not {status.passage_count}"
                    self._note("document", name, f"its index is not as it was: {why}")

    def _note(self, what: str, key: object, fault: str) -> None:
        """Add a finding: ``document returns-policy: it comes back live, and has long been otherwise.``"""
        self.report.findings.append(f"{what} {key}: {fault}.")


def _digest(item: Mapping[str, Any]) -> bytes:
    """Return a digest of an item without the attributes that change after it was put."""
    return sha256(repr(sorted(pair for pair in item.items() if pair[0] not in _OF_INDEX)).encode()).digest()


async def _answering_content(status: DocumentStatus, documents: StoredDocuments) -> Document | None:
    """Return the document with the content that answered, found by the hash of all its fields: the newest
    version, or an earlier one. None where none is kept, or the file that it was converted from is not."""
    name, content = status.document_id, str(status.live_content_hash)
    with suppress(DocumentInvalidError):
        document = await documents.get(name)
        if document is None or content not in document.content_hashes():
            kept = [version.document for version in await documents.contents(name)]
            document = next((earlier for earlier in kept if content in earlier.content_hashes()), None)
        original = None if document is None else document.original
        if original is None or await documents.read_original(name, original, start=0):
            return document
    return None
