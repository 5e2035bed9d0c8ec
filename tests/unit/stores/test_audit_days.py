"""Audit records are a chain for each writer; digests of days show what was removed, changed or added."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from assistant.domain.answers import Act, AgentAct, Sent, Verdict, VerdictLabel
from assistant.domain.audit import (
    AccessEntry,
    AuditLink,
    AuditRecord,
    DayDigest,
    by_writer,
    digest_of,
    hash_of,
)
from assistant.domain.errors import ConflictError, DocumentInvalidError, RecordsUnavailableError
from assistant.process.settings import RunningIn
from assistant.stores.audit import (
    MOST_DAYS,
    AuditChain,
    AuditReport,
    CloseDays,
    DayDigests,
    VerifyAudit,
    key_of,
)
from assistant.stores.records import RECORDS_TABLE, StoredRecords
from assistant.stores.table import Range, Table, keyed, sortable
from tests.contracts import samples
from tests.stage.tenant_stores import SteppedClock, SteppedFolder, TenantStores, date_file

# --- damage -----------------------------------------------------------------------------------------------
Change = Callable[[str, AuditLink], tuple[str, AuditLink] | None]
"""Takes content and link of a record, and returns what is there instead; None removes the record."""


def change_records(records: Path, day: date, change: Change) -> None:
    """Apply a change to each chained record of a day."""
    with unguarded(records) as file:
        statement = "SELECT rowid, item FROM items WHERE pk IN (?, ?)"
        for rowid, stored in file.execute(statement, (f"access#{day}", f"access#{day}#writers")).fetchall():
            item = json.loads(stored)
            if "link" not in item:
                continue
            changed = change(item["body"], AuditLink.model_validate_json(item["link"]))
            if changed is None:
                file.execute("DELETE FROM items WHERE rowid = ?", (rowid,))
                continue
            content, link = changed
            written = json.dumps({**item, "body": content, "link": link.model_dump_json()})
            file.execute("UPDATE items SET item = ? WHERE rowid = ?", (written, rowid))


def add_copy(records: Path, content: str, link: AuditLink) -> None:
    """Write a record once more, with this link."""
    with unguarded(records) as file:
        item = json.dumps({"body": content, "link": link.model_dump_json()})
        row = (f"access#{link.day}", f"{link.day}T12:00:00.000000+00:00#copy", item)
        file.execute("INSERT INTO items (pk, sk, item) VALUES (?, ?, ?)", row)


def remove_links(records: Path, day: date) -> None:
    """Leave the records of a day without their chains."""
    with unguarded(records) as file:
        file.execute("DELETE FROM items WHERE pk = ?", (f"access#{day}#writers",))
        file.execute("UPDATE items SET item = json_remove(item, '$.link') WHERE pk = ?", (f"access#{day}",))


@contextmanager
def unguarded(records: Path) -> Generator[sqlite3.Connection]:
    """Let the table change and delete items from now on."""
    with closing(sqlite3.connect(records)) as file, file:
        for trigger in ("items_stay", "items_no_delete"):
            file.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        yield file


def with_agent(content: str, agent: str) -> str:
    return json.dumps({**json.loads(content), "agent": agent})


# --- tests ------------------------------------------------------------------------------------------------
DAY = samples.NOON.date()
NEXT = DAY + timedelta(days=1)
A_DAY = 24 * 60
A_DAY_S = 24 * 3600.0


@dataclass
class Scene:
    """A tenant's audit, whose days end as the clock of its digests' store says."""

    stores: TenantStores
    place: Path
    clock: SteppedClock

    @property
    def file(self) -> Path:
        return self.place / "records.sqlite"

    @property
    def records_table(self) -> Table:
        return self.stores.get(RECORDS_TABLE)

    @property
    def digests(self) -> DayDigests:
        return DayDigests(SteppedFolder(self.place / "digests", clock=self.clock))

    async def read(self, *minutes: int) -> None:
        for minute in minutes:
            await self.stores.records.record_access(samples.read("ana", minute=minute))

    async def close_days(self) -> int:
        """Close the day of the samples and the next, two days later."""
        self.clock.step(2 * A_DAY_S)
        return await self.close()

    async def close(self) -> int:
        return await CloseDays(self.stores.records, self.digests).close()

    async def verify(self, *, days: int = 2) -> AuditReport:
        verify = VerifyAudit(self.stores.records, self.digests)
        return await verify.run(DAY, DAY + timedelta(days=days - 1))

    async def faults(self) -> list[tuple[date, str]]:
        return [(finding.day, finding.fault) for finding in (await self.verify()).findings]

    async def change(self, change: Change, *, day: date = DAY) -> None:
        change_records(self.file, day, change)

    def path(self, day: date) -> Path:
        return self.place / "digests" / key_of(day)

    def rewrite(self, day: date, content: bytes) -> None:
        self.path(day).write_bytes(content)
        date_file(self.path(day), self.clock)


@pytest.fixture
def scene(stores: TenantStores) -> Scene:
    return Scene(stores, stores.folder, SteppedClock(samples.NOON))


@pytest.fixture
async def closed(scene: Scene) -> Scene:
    """Two days of one writer, with three reads and two, and an empty day before, closed."""
    await scene.close()
    await scene.read(0, 1, 2, A_DAY, A_DAY + 1)
    assert await scene.close_days() == 2
    assert (await scene.verify()).findings == ()
    return scene


def at(sequence: int, instead: Callable[[str, AuditLink], tuple[str, AuditLink] | None]) -> Change:
    """Change the record of a sequence, and leave the others."""
    return lambda content, link: instead(content, link) if link.sequence == sequence else (content, link)


def gone(_content: str, _link: AuditLink) -> None:
    return None


def altered(content: str, link: AuditLink) -> tuple[str, AuditLink]:
    return with_agent(content, "somebody else"), link


# --- writing ----------------------------------------------------------------------------------------------


async def test_a_writer_s_records_name_each_the_one_before(scene: Scene) -> None:
    await scene.read(0, 1)
    ((writer, chain),) = by_writer(await scene.stores.records.audited(DAY)).items()
    assert list(chain) == [0, 1, 2]
    (start,), (first,), (second,) = chain.values()
    assert json.loads(start.content).keys() == {"kind", "task", "at", "follows"}
    assert (start.previous, first.previous, second.previous) == ("", start.hash, first.hash)
    assert len(writer) == 32


async def test_a_new_day_follows_the_one_before(scene: Scene) -> None:
    await scene.read(0, A_DAY)
    (before,) = by_writer(await scene.stores.records.audited(DAY)).values()
    (after,) = by_writer(await scene.stores.records.audited(NEXT)).values()
    assert after[0][0].previous == before[1][0].hash
    assert json.loads(after[0][0].content)["follows"] == str(DAY)


async def test_fifty_reads_at_once_are_one_chain_without_a_fork(scene: Scene) -> None:
    reads = (scene.stores.records.record_access(samples.read(f"agent {n}")) for n in range(50))
    await asyncio.gather(*reads)
    ((_, chain),) = by_writer(await scene.stores.records.audited(DAY)).items()
    assert [len(same) for same in chain.values()] == [1] * 51
    await scene.close_days()
    assert await scene.faults() == []


async def test_an_answer_s_sight_is_in_the_chain_once(scene: Scene) -> None:
    record = samples.answer("a1")
    await scene.stores.records.begin_answer(record, until=samples.NOON)
    await scene.stores.records.begin_answer(record, until=samples.NOON)
    await scene.read(1)
    (chain,) = by_writer(await scene.stores.records.audited(DAY)).values()
    kinds = [json.loads(same.content).get("kind") for (same,) in chain.values()]
    assert kinds[1:] == ["asked", "document"]


async def test_a_call_that_was_cancelled_does_not_fork_the_chain(scene: Scene) -> None:
    await scene.read(0)
    cut = asyncio.create_task(scene.stores.records.record_access(samples.read("hasty", minute=1)))
    await asyncio.sleep(0)
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    await scene.read(2, 3)
    await scene.close_days()
    assert await scene.faults() == []


KILLED_READER = """
import asyncio, os, sys
from pathlib import Path
from tests.contracts.samples import read
from tests.stage.tenant_stores import TenantStores

async def main():
    records = TenantStores(Path(sys.argv[1])).records
    for minute in range(3):
        await records.record_access(read("elsewhere", minute=minute))
    asyncio.get_running_loop().call_later(0.01, os._exit, 9)
    await asyncio.gather(*(records.record_access(read("dying", minute=minute)) for minute in range(200)))

asyncio.run(main())
"""


async def test_a_killed_process_leaves_a_chain_that_verifies(scene: Scene) -> None:
    """It records reads one after the other, and ends while more are under way."""
    command = [sys.executable, "-c", KILLED_READER, str(scene.place)]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60)
    assert ended.returncode == 9, ended.stderr
    await scene.read(1)
    await scene.close_days()
    report = await scene.verify()
    assert (report.findings, report.writers) == ((), 2)
    assert report.records >= 6  # two start records, three reads there, one here


# --- digests ----------------------------------------------------------------------------------------------


async def test_missed_days_are_made_up(closed: Scene) -> None:
    closed.clock.step(3 * A_DAY_S)
    assert "missing day" in {finding.fault for finding in (await closed.verify(days=4)).findings}
    assert await closed.close() == 3
    assert (await closed.verify(days=5)).findings == ()


async def test_a_day_is_open_until_an_hour_after_midnight(scene: Scene) -> None:
    days = CloseDays(scene.stores.records, scene.digests)
    await days.close()
    scene.clock.step(12.5 * 3600)
    assert await days.close() == 0
    scene.clock.step(0.6 * 3600)
    assert await days.close() == 1


class StoppingDigests(DayDigests):
    """Sets ``stopping`` with the first digest that is put."""

    stopping: asyncio.Event

    async def put(self, day: date, digest: DayDigest, *, attempt: int = 1) -> bytes:
        stored = await super().put(day, digest, attempt=attempt)
        self.stopping.set()
        return stored


async def test_a_loop_closes_days_until_it_is_stopped(scene: Scene) -> None:
    digests = StoppingDigests(SteppedFolder(scene.place / "digests", clock=scene.clock))
    digests.stopping = asyncio.Event()
    close = CloseDays(scene.stores.records, digests)
    await asyncio.wait_for(close.run(digests.stopping), 60)
    assert scene.path(DAY - timedelta(days=1)).exists()


# --- a wrong clock ----------------------------------------------------------------------------------------


async def close_ahead(scene: Scene, *, days: int) -> None:
    """Write digests as a process of a release before does whose clock is ahead; the store's is not."""
    early = DayDigest(day=DAY, previous="", writers=(), unchained=0)
    for number in range(days):
        day = DAY + number * timedelta(days=1)
        await scene.digests.put(day, early.model_copy(update={"day": day}))


async def test_days_that_were_closed_before_they_ended_are_closed_again(scene: Scene) -> None:
    await scene.close()
    await close_ahead(scene, days=400)
    await scene.read(0, 1, A_DAY)
    assert await scene.close() == 0
    for day in (DAY, NEXT):
        scene.clock.step(A_DAY_S)
        assert await scene.close() == 1
        report = await scene.verify(days=(day - DAY).days + 1)
        assert report.findings == ()
    assert scene.path(DAY).with_suffix(".2.json").exists()


async def test_a_digest_that_names_one_of_the_wrong_clock_stays_good(scene: Scene) -> None:
    await close_ahead(scene, days=1)
    wrong = scene.path(DAY).read_bytes()
    scene.clock.step(2 * A_DAY_S)
    after = DayDigest(day=NEXT, previous=sha256(wrong).hexdigest(), writers=(), unchained=0)
    await scene.digests.put(NEXT, after)
    await scene.close()
    assert (await scene.verify()).findings == ()


async def test_a_disk_whose_clock_was_ahead_is_closed_again_and_stays_so(scene: Scene) -> None:
    await scene.close()
    ahead = SteppedClock(samples.NOON + timedelta(days=20))
    wrong = DayDigests(SteppedFolder(scene.place / "digests", clock=ahead))
    assert await CloseDays(scene.stores.records, wrong).close() == 20
    await scene.read(0)
    for _ in range(22):
        scene.clock.step(A_DAY_S)
        await scene.close()
    assert (await scene.verify(days=22)).findings == ()


async def test_a_second_digest_beside_a_good_one_counts_nothing_and_is_found(closed: Scene) -> None:
    await closed.change(at(2, gone), day=NEXT)
    forged = DayDigest(day=NEXT, previous="", writers=(), unchained=0)
    await closed.digests.put(NEXT, forged, attempt=2)
    assert sorted(fault for _, fault in await closed.faults()) == ["rewritten", "truncated"]


async def test_a_run_closes_a_month_at_most_and_the_next_goes_on(scene: Scene) -> None:
    await scene.close()
    scene.clock.step(40 * A_DAY_S)
    assert [await scene.close() for _ in range(3)] == [MOST_DAYS, 40 - MOST_DAYS, 0]


# --- attacks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "day", "fault", "is_alone"),
    [
        (at(2, gone), NEXT, "truncated", True),
        (at(2, gone), DAY, "gap", True),
        (at(0, gone), DAY, "gap", False),
        (at(1, altered), DAY, "altered", False),
        (at(2, altered), DAY, "altered", False),
        (at(3, altered), DAY, "altered", False),
        (gone, DAY, "missing writer", False),
    ],
)
async def test_a_removed_or_altered_record_is_found(
    closed: Scene, change: Change, day: date, fault: str, is_alone: bool
) -> None:
    await closed.change(change, day=day)
    faults = await closed.faults()
    assert (day, fault) in faults
    assert not is_alone or len(faults) == 1


async def test_a_writer_that_its_next_day_names_is_missed_without_a_digest(scene: Scene) -> None:
    await scene.read(0, A_DAY)
    await scene.change(gone)
    assert await scene.faults() == [(NEXT, "missing writer")]


async def test_a_record_under_another_writer_is_found(closed: Scene) -> None:
    kept: list[tuple[str, AuditLink]] = []
    await closed.change(at(2, lambda content, link: kept.append((content, link)) or (content, link)))
    ((content, link),) = kept
    add_copy(closed.file, content, link.model_copy(update={"writer": "0" * 32}))
    faults = await closed.faults()
    assert (DAY, "late") in faults
    assert (DAY, "gap") in faults


async def test_a_record_that_was_copied_is_a_fork(closed: Scene) -> None:
    kept: list[tuple[str, AuditLink]] = []
    await closed.change(at(2, lambda content, link: kept.append((content, link)) or (content, link)))
    ((content, link),) = kept
    add_copy(closed.file, with_agent(content, "somebody else"), link)
    assert (DAY, "fork") in await closed.faults()


def recorded_by(scene: Scene) -> StoredRecords:
    """Return the scene's records as another process writes them at the time of the samples."""
    return StoredRecords(scene.records_table, clock=SteppedClock(samples.NOON))


async def say(records: StoredRecords, number: int) -> None:
    """Record an answer, a verdict, a sent text and an act of that number."""
    await records.put_answer(samples.answer(f"a{number}"))
    verdict = Verdict(verdict_id=f"v{number}", label=VerdictLabel.GOOD)
    await records.append_verdict("a1", verdict, agent="ana")
    await records.append_sent("a1", Sent(send_id=f"s{number}", text="Take 5 mg."), agent="ana")
    await records.append_act("a1", Act(act_id=f"o{number}", kind=AgentAct.OFFERED_USED), agent="ana")


async def test_each_altered_deleted_or_invented_row_is_named(scene: Scene) -> None:
    await scene.close()
    records, table = recorded_by(scene), scene.records_table
    await records.begin_answer(samples.answer("a1"), until=samples.NOON)
    for number in (1, 2, 3):
        await say(records, number)
    assert await scene.close_days() == 2
    report = await scene.verify()
    assert (report.findings, report.rows, report.unhashed) == ((), 1 + 3 + 2 * 3 * 3, 0)

    with unguarded(scene.file):
        pass  # now the table itself changes and deletes items
    listed = f"#{sortable(samples.NOON)}#"
    wanted: list[tuple[str, str]] = []
    for pk, sk in (
        ("answer#aN", "answer"),
        ("answer#a1", f"verdict{listed}vN"),
        ("answer#a1", f"sent{listed}sN"),
        ("act#oN", "once"),
    ):
        first, second, ninth = ((pk.replace("N", n), sk.replace("N", n)) for n in "129")
        item = await table.get(first)
        assert item is not None
        await table.put({**item, "body": item["body"].replace("ana", "ben")})
        await table.delete(second)
        await table.put(keyed(ninth, body=item["body"]))
        faults = ("altered", first), ("deleted", second), ("invented", ninth)
        wanted += [(fault, f"{row[0]} {row[1]} ") for fault, row in faults]
    findings = (await scene.verify()).findings
    assert len(findings) == len(wanted)
    for fault, row in wanted:
        assert any(finding.fault == fault and row in finding.said for finding in findings), (fault, row)


async def test_a_hash_that_was_removed_from_a_closed_day_is_found(scene: Scene) -> None:
    await scene.close()
    await recorded_by(scene).put_answer(samples.answer())
    await scene.close_days()
    with unguarded(scene.file):
        pass  # now the table itself changes and deletes items
    (entry,) = await scene.records_table.query(Range(f"access#{DAY}"))
    await scene.records_table.put({name: value for name, value in entry.items() if name != "newer"})
    assert await scene.faults() == [(DAY, "altered")]


async def test_rows_of_older_releases_are_counted_and_no_fault(scene: Scene) -> None:
    await scene.close()
    await say(recorded_by(scene), 1)
    with unguarded(scene.file):
        pass  # now the table itself changes and deletes items
    for entry in await scene.records_table.query(Range(f"access#{DAY}")):
        await scene.records_table.delete((entry["pk"], entry["sk"]))
    asked = AccessEntry(at=samples.NOON, agent="ana", kind="asked", subject_id="a1")
    await recorded_by(scene).record_access(asked)
    await scene.close_days()
    assert (await scene.verify()).unhashed == 7


async def test_a_removed_digest_is_found(closed: Scene) -> None:
    closed.path(DAY).unlink()
    faults = await closed.faults()
    assert (DAY, "missing day") in faults
    assert (NEXT, "missing day") in faults  # it names the digest that is gone


async def test_a_removed_last_digest_is_found(closed: Scene) -> None:
    closed.path(NEXT).unlink()
    closed.clock.step(A_DAY_S)
    assert await closed.faults() == [(NEXT, "missing day")]


async def test_swapped_digests_are_found(closed: Scene) -> None:
    one, other = closed.path(DAY).read_bytes(), closed.path(NEXT).read_bytes()
    closed.rewrite(DAY, other)
    closed.rewrite(NEXT, one)
    assert await closed.faults() == [(DAY, "swapped"), (NEXT, "swapped")]


async def test_an_altered_digest_is_found_by_the_next(closed: Scene) -> None:
    path = closed.path(DAY)
    closed.rewrite(DAY, path.read_bytes().replace(b'"unchained":0', b'"unchained":7'))
    assert (NEXT, "altered") in await closed.faults()


async def test_a_digest_of_nonsense_says_which(closed: Scene) -> None:
    closed.rewrite(DAY, b"{}")
    with pytest.raises(DocumentInvalidError, match=key_of(DAY)):
        await closed.verify()


async def test_a_record_after_the_digest_is_found(closed: Scene) -> None:
    await closed.read(3)
    assert await closed.faults() == [(DAY, "late")]


async def test_records_of_older_releases_are_counted_and_no_fault(scene: Scene) -> None:
    await scene.read(0, 1)
    await scene.change(lambda content, link: None if link.sequence == 0 else (content, link))
    unlink_all(scene)
    await scene.close_days()
    report = await scene.verify()
    assert (report.unchained, report.records) == (2, 0)
    assert report.findings == ()


async def test_a_record_without_a_chain_after_chains_began_is_found(closed: Scene) -> None:
    unlink_all(closed)
    assert (DAY, "unchained") in await closed.faults()


def unlink_all(scene: Scene) -> None:
    """Leave the records of the day as an older release wrote them."""
    remove_links(scene.file, DAY)


# --- one writer, over a store that fails, stalls or refuses -----------------------------------------------
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class Store:
    """Keeps records by their place. ``fail_after`` writes that many and then says that it is down."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.calls = 0
        self.down = False
        self.loses_responses = False
        self.released = asyncio.Event()
        self.released.set()

    async def put(self, content: str, link: AuditLink) -> bool:
        self.calls += 1
        await self.released.wait()
        if self.down and not self.loses_responses:
            raise RecordsUnavailableError("Down.")
        if AuditRecord(content, link) not in self.records:
            self.records.append(AuditRecord(content, link))
        if self.down:
            raise RecordsUnavailableError("No response.")
        return True

    @property
    def sequences(self) -> list[int]:
        (chain,) = by_writer(self.records).values()
        assert [len(same) for same in chain.values()] == [1] * len(chain)
        kept = [same for (same,) in chain.values()]
        assert [each.previous for each in kept[1:]] == [each.hash for each in kept[:-1]]
        return list(chain)


@pytest.fixture
def store() -> Store:
    return Store()


async def add(store: Store, chain: AuditChain, content: str = "{}") -> None:
    await chain.append(content, at=NOON, put=store.put)


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_failed_write_is_repeated_with_its_place(store: Store, is_stored: bool) -> None:
    chain = AuditChain(store.put)
    await add(store, chain, '{"n": 1}')
    store.down, store.loses_responses = True, is_stored
    with pytest.raises(RecordsUnavailableError):
        await add(store, chain, '{"n": 2}')
    store.down = False
    await add(store, chain, '{"n": 3}')
    assert store.sequences == [0, 1, 2, 3]
    assert [record.content for record in store.records[1:]] == ['{"n": 1}', '{"n": 2}', '{"n": 3}']


async def test_a_failed_start_is_repeated(store: Store) -> None:
    chain, store.down = AuditChain(store.put), True
    with pytest.raises(RecordsUnavailableError):
        await add(store, chain)
    store.down = False
    await add(store, chain)
    assert store.sequences == [0, 1]


@pytest.mark.parametrize("is_refused", [True, False])
async def test_a_record_that_is_refused_or_there_already_leaves_no_gap(
    store: Store, is_refused: bool
) -> None:
    async def present(_content: str, _link: AuditLink) -> bool:
        if is_refused:
            raise ConflictError("There already.")
        return False

    chain = AuditChain(store.put)
    with pytest.raises(ConflictError) if is_refused else nullcontext():
        await chain.append("{}", at=NOON, put=present)
    await add(store, chain)
    assert store.sequences == [0, 1]


async def test_who_waits_while_the_store_fails_is_told_at_once(store: Store) -> None:
    chain = AuditChain(store.put)
    await add(store, chain)
    store.down, store.calls = True, 0
    store.released.clear()
    waiting = [asyncio.create_task(add(store, chain)) for _ in range(20)]
    await asyncio.sleep(0)
    store.released.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [RecordsUnavailableError] * 20
    assert store.calls == 1


async def test_after_a_failure_the_next_call_tries_again(store: Store) -> None:
    chain, store.down = AuditChain(store.put), True
    for _ in range(2):
        with pytest.raises(RecordsUnavailableError):
            await add(store, chain)
    store.down = False
    await add(store, chain)
    await add(store, chain)
    assert store.sequences == [0, 1, 2]


def test_a_hash_is_of_what_is_meant_and_not_of_its_spelling() -> None:
    link = AuditLink(writer="w", day=date(2026, 11, 20), sequence=1, previous="")
    one = AuditRecord('{"agent": "ana", "at": 1}', link)
    assert hash_of(one) == hash_of(AuditRecord('{"at":1,"agent":"ana"}', link))
    assert hash_of(one) != hash_of(AuditRecord('{"agent": "ben", "at": 1}', link))
    for change in ({"writer": "v"}, {"day": date(2026, 11, 21)}, {"sequence": 2}, {"previous": "a"}):
        assert hash_of(one) != hash_of(AuditRecord(one.content, link.model_copy(update=change)))


def test_a_digest_is_the_same_in_whatever_order_records_are_read() -> None:
    links = [
        AuditLink(writer=writer, day=date(2026, 11, 20), sequence=sequence, previous="")
        for writer in ("b", "a")
        for sequence in (1, 0)
    ]
    records = [AuditRecord("{}", link) for link in links]
    day = date(2026, 11, 20)
    assert digest_of(day, records, previous="") == digest_of(day, records[::-1], previous="")


FARGATE = "http://169.254.170.2/v4/cd189a933e5849daa93386466019ab50-2495160603"


@pytest.mark.parametrize(
    ("given", "task"),
    [
        ({"ECS_CONTAINER_METADATA_URI_V4": FARGATE}, "cd189a933e5849daa93386466019ab50"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "a", "AWS_LAMBDA_LOG_STREAM_NAME": "2026/[1]ab"}, "2026/[1]ab"),
        ({}, f"{socket.gethostname()}:{os.getpid()}"),
    ],
    ids=["task", "function", "process"],
)
def test_a_task_a_function_and_a_process_have_a_name_of_their_own(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], task: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert RunningIn.read().task == task


async def test_a_conflict_of_another_caller_s_record_is_not_this_caller_s(store: Store) -> None:
    async def stall(_content: str, _link: AuditLink) -> bool:
        stall_calls.append(1)
        raise RecordsUnavailableError("Down.") if len(stall_calls) == 1 else ConflictError("There already.")

    stall_calls: list[int] = []
    chain = AuditChain(store.put)
    with pytest.raises(RecordsUnavailableError):
        await chain.append("{}", at=NOON, put=stall)
    await add(store, chain)
    assert store.sequences == [0, 1]
