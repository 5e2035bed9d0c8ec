"""Audit records are a chain for each writer; digests of days show what was removed, changed or added."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from assistant.domain.answers import Act, AgentAct, Sent, Verdict, VerdictLabel
from assistant.domain.audit import AccessEntry, AuditLink, DayDigest, by_writer
from assistant.domain.errors import DocumentInvalidError
from assistant.stores.audit import MOST_DAYS, AuditReport, CloseDays, DayDigests, VerifyAudit, key_of
from assistant.stores.records import RECORDS_TABLE, StoredRecords
from assistant.stores.table import Range, Table, keyed, sortable
from tests.contracts import samples
from tests.fakes.clock import SteppedClock
from tests.fakes.stepped_folder import SteppedFolder, date_file
from tests.fakes.tenant_stores import TenantStores
from tests.unit.stores.audit_damage import (
    Change,
    add_copy,
    change_records,
    remove_links,
    unguarded,
    with_agent,
)

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
from tests.fakes.tenant_stores import TenantStores

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


async def test_a_removed_last_record_is_found(closed: Scene) -> None:
    await closed.change(at(2, gone), day=NEXT)
    assert await closed.faults() == [(NEXT, "truncated")]


async def test_a_removed_record_in_the_middle_is_found(closed: Scene) -> None:
    await closed.change(at(2, gone))
    assert await closed.faults() == [(DAY, "gap")]


async def test_a_removed_start_record_is_found(closed: Scene) -> None:
    await closed.change(at(0, gone))
    assert (DAY, "gap") in await closed.faults()


@pytest.mark.parametrize("sequence", [1, 2, 3])
async def test_an_altered_record_is_found(closed: Scene, sequence: int) -> None:
    await closed.change(at(sequence, altered))
    assert (DAY, "altered") in await closed.faults()


async def test_a_removed_writer_is_found(closed: Scene) -> None:
    await closed.change(gone)
    assert (DAY, "missing writer") in await closed.faults()


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
