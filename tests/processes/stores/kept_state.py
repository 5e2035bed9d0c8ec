"""Fills a tenant's embedded stores with something of every kind, and reads all of it.

It runs by this release and by one before, so it uses only what both have. ``tests/data/release_of_tables`` is
what ``write`` made by the last release that kept each store in tables of its own (90019f7b).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from assistant.domain.answers import Act, AgentAct, Sent, Verdict, VerdictLabel
from assistant.domain.audit import AccessQuery, LiveRead, LiveReadQuery
from assistant.domain.desk import Case, CaseReason, CaseState, DeskItem, DeskKind
from assistant.domain.documents import DocumentState
from assistant.options.desk.mover import OUTBOX
from assistant.options.live.stored import LIVE_READS, SENT_VALUES
from assistant.options.sources.run import SOURCE_RUNS, SourceRun
from assistant.stores.ports import ValuesOfSent
from tests.contracts import samples
from tests.fakes.tenant_stores import TenantStores

NOW = samples.NOON
FAR = datetime(2100, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FILES = ("records", "desk", "queue", "connectors", "events", "sent-values", "erasure")


def open_tenant(folder: Path) -> TenantStores:
    return TenantStores(folder, embedding_model="model-of-four", dimensions=4)


async def fill(stores: TenantStores) -> None:
    records = stores.records
    for number in range(3):
        answer = samples.answer(f"a{number}", minute=number)
        await records.begin_answer(answer, until=NOW + timedelta(minutes=number))
        await records.put_answer(
            answer.model_copy(
                update={"red_flags": ("overdose",), "text": "µ" * (17_000 if number == 2 else 1)}
            )
        )
    await records.begin_answer(samples.answer("begun", minute=7), until=FAR)
    await records.begin_answer(samples.answer("left", minute=8), until=NOW)
    await records.put_answer(samples.answer("alone", minute=9))
    for number, label in enumerate((VerdictLabel.GOOD, VerdictLabel.BAD)):
        await records.append_verdict("a0", Verdict(verdict_id=f"v{number}", label=label), agent="ana")
        await records.append_sent("a0", Sent(send_id=f"s{number}", text=f"Text {number}."), agent="ana")
        act = Act(act_id=f"t{number}", kind=(AgentAct.OFFERED_USED, AgentAct.POSSIBLY_TAKEN)[number])
        await records.append_act("a0", act, agent="ana")
        await records.take_place("a0", "verdicts", f"v{number}", most=2)
        await records.record_access(samples.read("ada", minute=number))
    await stores.get(OUTBOX).confirm(
        [row for row in await stores.get(OUTBOX).pending() if row.kind == "verdict"][:1]
    )
    for number, subject in enumerate(("patient", None)):
        read = LiveRead(
            read_id=f"r{number}",
            at=NOW + timedelta(minutes=number),
            agent="ana",
            system="orders",
            operation="orders.get",
            subject=subject,
            outcome="ready",
        )
        await stores.get(LIVE_READS).record(read)
    for number, (state, joined) in enumerate(
        ((CaseState.OPEN, None), (CaseState.DISMISSED, None), (CaseState.OPEN, "c0"))
    ):
        case = Case(answer_id="a0", reason=CaseReason.REVIEW_DUE, opened_at=NOW, state=state, joined=joined)
        await stores.desk.put(
            _revision(DeskKind.CASE, f"c{number}", 1, case.model_dump_json(), minute=number)
        )
    for revision, body in ((1, "x"), (2, "x" * 33_000)):
        await stores.desk.put(_revision(DeskKind.APPROVED_ANSWER, "approved", revision, body))
    for name, state in (("live", DocumentState.LIVE), ("gone", DocumentState.WITHDRAWN)):
        await stores.states.put_many([samples.status(name, state=state)])
    await stores.queue.send_many(["live"])
    run = SourceRun(source="source", started_at=NOW)
    await stores.get(SOURCE_RUNS).put_run(run)
    await stores.claims.claim(samples.claim("a0", at=FAR))
    await stores.claims.cancel("a0")
    await stores.claims.count_context("7" * 64, answer_id="a0", key=None)
    await stores.get(SENT_VALUES).keep(ValuesOfSent("a0", "s0", ("µ", "24"), FAR))
    await stores.erasure_keys.keys_of(["document:a", "document:b"], create=True)
    await stores.erasure_keys.destroy("document:b")


def _revision(kind: DeskKind, item_id: str, revision: int, body: str, *, minute: int = 0) -> DeskItem:
    at = NOW + timedelta(minutes=minute)
    return DeskItem(kind=kind, item_id=item_id, revision=revision, at=at, by="ana", body=body)


async def read(stores: TenantStores) -> dict[str, Any]:
    records, desk = stores.records, stores.desk
    accesses = await records.list_accesses(AccessQuery(since=NOW - DAY, until=NOW + DAY))
    reads = await stores.get(LIVE_READS).list(LiveReadQuery(since=NOW - DAY, until=NOW + DAY))
    of_one = LiveReadQuery(since=NOW - DAY, until=NOW + DAY, subject="patient")
    found = {name: await records.find_answer(name) for name in ("a0", "begun", "left", "alone", "none")}
    keys = await stores.erasure_keys.keys_of(["document:a", "document:b"], create=False)
    held = await stores.claims.claim(samples.claim("other", request_hash="other"))
    return {
        "conversation": _json(await records.list_conversation("c1")),
        "found": {
            name: one
            and [one.record.model_dump(mode="json"), one.written_until and one.written_until.isoformat()]
            for name, one in found.items()
        },
        "verdicts": [_json(await records.list_verdicts("a0")), _json(await records.list_verdicts())],
        "sent": _json(await records.list_sent("a0")),
        "acts": _json(await records.list_acts("a0")),
        "places": [await records.take_place("a0", "verdicts", name, most=2) for name in ("v0", "v1", "v2")],
        "accesses": sorted(entry.model_dump_json() for entry in accesses.entries),
        "audited": sorted(
            [record.content, "" if record.link is None else record.link.model_dump_json()]
            for record in await records.audited(NOW.date())
        ),
        "outbox": sorted([row.kind, row.answer_id] for row in await stores.get(OUTBOX).pending()),
        "live_reads": [_json(reads.reads), _json((await stores.get(LIVE_READS).list(of_one)).reads)],
        "desk": {
            kind.value: [_json(await desk.list(kind)), _json(await desk.history(kind, item_id))]
            for kind, item_id in ((DeskKind.CASE, "c0"), (DeskKind.APPROVED_ANSWER, "approved"))
        },
        "open": _json(await desk.list(DeskKind.CASE, listed="open")),
        "states": _json(await stores.states.list()),
        "counts": {str(state): count for state, count in (await stores.states.count_by_state()).items()},
        "queued": await stores.queue.depth(),
        "runs": _json(await stores.get(SOURCE_RUNS).runs()),
        "claims": [
            held.answer_id,
            held.request_hash,
            list(await stores.claims.cancelled(["a0"])),
            await stores.claims.count_context("7" * 64, answer_id="a1", key=None),
        ],
        "values": {
            name: [*values.values] for name, values in (await stores.get(SENT_VALUES).of("a0")).items()
        },
        "keys": {name: key.hex() for name, key in keys.items()},
        "destroyed": [*await stores.erasure_keys.destroyed(["document:a", "document:b"])],
    }


def _json(rows: Sequence[Any]) -> list[Any]:
    return [json.loads(row.model_dump_json()) for row in rows]


async def write(folder: Path, into: Path) -> None:
    """Fill a folder, and write what its files hold and what is read of it into another one."""
    stores = open_tenant(folder)
    await fill(stores)
    (into / "read.json").write_text(json.dumps(await read(stores), indent=1, ensure_ascii=False))
    await stores.close()
    with closing(sqlite3.connect(folder / "events.sqlite")) as file, file:
        for table in ("signals", "contexts"):
            file.execute(f"UPDATE {table} SET expires_at = ?", (FAR.timestamp(),))  # noqa: S608
    for name in FILES:
        with closing(sqlite3.connect(folder / f"{name}.sqlite")) as file:
            (into / f"{name}.sql").write_text("\n".join(file.iterdump()))


def restore(sources: Path, folder: Path) -> None:
    """Make the files of a folder again."""
    folder.mkdir(parents=True)
    for name in FILES:
        with closing(sqlite3.connect(folder / f"{name}.sqlite")) as file:
            file.executescript((sources / f"{name}.sql").read_text())
