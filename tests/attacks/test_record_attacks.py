"""A copied state tampered with: ``assistant aws audit verify --local`` names what was done."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.answers import Act, AgentAct, Sent, Verdict, VerdictLabel
from assistant.domain.audit import AuditLink, link_after
from assistant.stores.audit import AuditReport, CloseDays, DayDigests, VerifyAudit
from assistant.stores.formats import join_row
from assistant.stores.records import RECORDS_TABLE, StoredRecords
from tests.contracts import samples
from tests.stage.tenant_stores import SteppedClock, SteppedFolder, TenantStores

DAY, NEXT = samples.NOON.date(), samples.NOON.date() + timedelta(days=1)
Row = dict[str, Any]
Key = tuple[str, str]
PUT = "INSERT OR REPLACE INTO items (pk, sk, item) VALUES (?, ?, ?)"


@dataclass
class Copy:
    """A copy of the state of two closed days, which its owner alters with SQL."""

    folder: Path
    clock: SteppedClock

    @property
    def digests(self) -> DayDigests:
        return DayDigests(SteppedFolder(self.folder / "digests", clock=self.clock))

    async def verify(self) -> AuditReport:
        stores = TenantStores(self.folder)
        try:
            return await VerifyAudit(StoredRecords(stores.get(RECORDS_TABLE)), self.digests).run(DAY, NEXT)
        finally:
            await stores.close()

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "records.sqlite")) as file, file:
            for trigger in ("items_stay", "items_no_delete"):
                file.execute(f"DROP TRIGGER IF EXISTS {trigger}")
            return file.execute(statement, values).fetchall()

    def key(self, kind: str, answer: str = "a01") -> Key:
        """Return the key of an answer's one row of a kind."""
        partition = f"answer#{answer}"
        [(found,)] = self.sql("SELECT sk FROM items WHERE pk = ? AND sk GLOB ?", partition, f"{kind}*")
        return partition, found

    def item(self, key: Key) -> Row:
        [(stored,)] = self.sql("SELECT item FROM items WHERE pk = ? AND sk = ?", *key)
        return json.loads(stored)

    def put(self, key: Key, item: Row) -> None:
        self.sql(PUT, *key, json.dumps(item))

    def alter(self, key: Key, path: str, to: object) -> None:
        """Set a field, "sent.text", of a row's whole JSON."""
        item = self.item(key)
        whole: Row = json.loads(join_row(item["body"], item.pop("newer", None)))
        *names, last = path.split(".")
        row = whole
        for name in names:
            row = row[name]
        assert row.get(last) != to
        row[last] = to
        self.put(key, item | {"body": json.dumps(whole)})

    # Each returns what must be named

    def delete(self, *keys: Key) -> set[str]:
        [self.sql("DELETE FROM items WHERE pk = ? AND sk = ?", *key) for key in keys]
        return {f"deleted {' '.join(key)}" for key in keys}

    def invent(self, kind: str, to: str, answer: str = "a01", **change: Any) -> set[str]:
        """Put a row again under another sort key of its answer."""
        key = self.key(kind, answer)
        item, new = self.item(key), (key[0], to)
        self.put(new, item | {"body": json.dumps(json.loads(item["body"]) | change)})
        return {f"invented {' '.join(new)}"}

    def move(self, kind: str) -> set[str]:
        """Make a record of one answer that of another."""
        key = self.key(kind)
        new = "answer#a02", key[1]
        self.put(new, self.item(key))
        return {f"invented {' '.join(new)}"} | self.delete(key)

    def exchange(self, one: Key, other: Key) -> set[str]:
        first, second = self.item(one), self.item(other)
        self.put(one, second)
        self.put(other, first)
        return {f"altered {' '.join(one)}", f"altered {' '.join(other)}"}

    def write(self, key: Key, body: str, fault: str = "altered") -> set[str]:
        self.put(key, {"body": body})
        return {f"{fault} {' '.join(key)}"}

    # Audit entries and digests

    def entries(self, day: date = DAY) -> list[tuple[Key, Row]]:
        """Return the chained entries of a day in their order."""
        names = f"access#{day}", f"access#{day}#writers"
        rows = self.sql("SELECT pk, sk, item FROM items WHERE pk IN (?, ?)", *names)
        found = [((pk, sk), json.loads(item)) for pk, sk, item in rows]
        return sorted(found, key=lambda one: json.loads(one[1]["link"])["sequence"])

    def chain_again(self, *, without: int | None = None) -> None:
        """Alter or remove an entry, and link all after it anew, as one who knows the rules would."""
        link: AuditLink | None = None
        for number, (key, item) in enumerate(self.entries()):
            if number == without:
                self.delete(key)
                continue
            link = link or AuditLink.model_validate_json(item["link"])
            body = item["body"].replace('"ana"', '"ben"', 1) if without is None else item["body"]
            self.put(key, item | {"body": body, "link": link.model_dump_json()})
            link = link_after(body, link)

    def hash_again(self) -> None:
        """Alter an answer, and put another hash of it in each entry that has one."""
        self.alter(ANSWER, "text", "Take 50 mg.")
        before = self.entries()
        for key, item in self.entries():
            text, name = json.dumps(item).replace("\\", ""), '"answer#a01 answer": "'
            digest = text.replace('":"', '": "').partition(name)[2][:64]
            self.put(key, json.loads(json.dumps(item).replace(digest, "f" * 64)) if digest else item)
        assert self.entries() != before


@pytest.fixture
async def copy(tmp_path: Path) -> Copy:
    """Two closed days of answers with verdicts, sent texts and acts; a copy verifies until it is touched."""
    state, written = Copy(tmp_path / "clinic", SteppedClock(samples.NOON)), SteppedClock(samples.NOON)
    stores = TenantStores(state.folder)
    records = StoredRecords(stores.get(RECORDS_TABLE), clock=written)
    await CloseDays(records, state.digests).close()
    for name in ("01", "02", "11", "12"):
        written.step(86_400 if name == "11" else 0)
        times = {"asked_at": written.now(), "finished_at": written.now()}
        answer = samples.answer(f"a{name}").model_copy(update=times)
        await records.begin_answer(answer, until=written.now())
        await records.put_answer(answer)
        sent = Sent(send_id=f"s{name}", text="Take 5 mg.", confirmed=("f1",), reason="The doctor said so.")
        verdict = Verdict(verdict_id=f"v{name}", label=VerdictLabel.GOOD)
        await records.append_sent(f"a{name}", sent, agent="ana", delivered_hash="0" * 64)
        await records.append_verdict(f"a{name}", verdict, agent="ana")
        await records.append_act(f"a{name}", Act(act_id=f"o{name}", kind=AgentAct.OFFERED_USED), agent="ana")
    state.clock.step(2 * 86_400)
    assert await CloseDays(records, state.digests).close() == 2
    await stores.close()
    copied = Copy(tmp_path / "copied" / "clinic", state.clock)
    shutil.copytree(state.folder, copied.folder)
    report = await copied.verify()
    assert (report.findings, report.unhashed, report.rows) == ((), 0, 4 * (2 + 3 * 2)), (
        "its owner sees no fault"
    )
    return copied


ANSWER = "answer#a01", "answer"
ALTERED = (
    "answer a01 text question agent labels candidates asked_at finish_reason conversation_id, answer a11 more"
    ", interrupted a01 question agent, verdict# a01 verdict.label at, verdict# a11 agent answer_id"
    ", sent# a01 sent.text sent.reason sent.confirmed sent.send_id delivered_hash at"
    ", sent# a12 sent.text agent, act# a01 act.kind at, act# a12 agent"
)
"""Fields of rows, each of an answer."""


async def test_each_altered_field_is_named(copy: Copy) -> None:
    for kind, answer, *fields in map(str.split, ALTERED.split(", ")):
        key = copy.key(kind, answer)
        kept = copy.item(key)
        for field in fields:
            copy.alter(key, field, "2031-01-01T00:00:00Z")
            findings = (await copy.verify()).findings
            found = [(one.fault, f"row {' '.join(key)} " in one.said) for one in findings]
            assert (kind, field, found) == (kind, field, [("altered", True)])
            copy.put(key, kept)
    assert (await copy.verify()).findings == (), "put back, it verifies"


TWO_TEXTS = '"Take 5 mg.","text":"Take 50 mg."'
ROWS: dict[str, Callable[[Copy], set[str]]] = {
    "all of an answer deleted": lambda copy: copy.delete(
        *map(copy.key, ("answer", "verdict#", "sent#", "act#"))
    ),
    "a sent text deleted in both rows": lambda copy: copy.delete(copy.key("sent#"), ("sent#s01", "once")),
    "a sent text of another answer": lambda copy: copy.move("sent#"),
    "two sent texts exchanged": lambda copy: copy.exchange(copy.key("sent#"), copy.key("sent#", "a02")),
    "a body that nobody can read": lambda copy: copy.write(copy.key("sent#"), "{"),
    "two texts in one body": lambda copy: copy.write(
        copy.key("sent#"), copy.item(copy.key("sent#"))["body"].replace('"Take 5 mg."', TWO_TEXTS)
    ),
    "invented in a year to come": lambda copy: copy.invent("sent#", "sent#9#s9", at="2099-01-01T00:00:00Z"),
    "invented before its answer": lambda copy: copy.invent("sent#", "sent#0#s9", at="2020-01-01T00:00:00Z"),
    "invented so that none reads it": lambda copy: copy.write(("answer#a01", "sent#1#s9"), "{", "unreadable"),
}


@pytest.mark.parametrize("name", ROWS)
async def test_each_row_that_was_deleted_invented_or_moved_is_named(copy: Copy, name: str) -> None:
    wanted = ROWS[name](copy)
    findings = (await copy.verify()).findings
    named = {f"{one.fault} {one.said.partition('The row ')[2]}" for one in findings}
    assert len(findings) == len(wanted)
    assert not [row for row in wanted if not any(one.startswith(f"{row} ") for one in named)], named


DAYS: dict[str, Callable[[Copy], object]] = {
    "all entries deleted": lambda copy: copy.sql("DELETE FROM items WHERE pk GLOB ?", f"access#{DAY}*"),
    "all of the last day": lambda copy: copy.sql("DELETE FROM items WHERE pk GLOB ?", f"access#{NEXT}*"),
    "an entry altered, all linked anew": Copy.chain_again,
    "an entry removed, all linked anew": lambda copy: copy.chain_again(without=3),
    "an answer altered with its hash": Copy.hash_again,
    "the links removed": lambda copy: [copy.put(key, {"body": item["body"]}) for key, item in copy.entries()],
}


@pytest.mark.parametrize("name", DAYS)
async def test_a_day_that_was_changed_is_named(copy: Copy, name: str) -> None:
    DAYS[name](copy)
    assert {one.day for one in (await copy.verify()).findings} & {DAY, NEXT}
