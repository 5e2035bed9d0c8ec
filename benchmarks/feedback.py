"""What signals cost an answer, and how soon they are stored: ``python -m benchmarks.feedback``.

The figures of docs/decisions/0044-signals-that-leave.md. Cost: CPU of recording an answer whose row enters
the outbox, against one that does not, with DynamoDB's stand-in of ``record_calls``. Delay: from the return of
a verdict's write to its event on disk, while a mover runs in a process of its own as in the local worker.
Reading: CPU of reading 20,000 events with 20 documents each.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from random import Random
from statistics import median, quantiles

from assistant.answering.ports import AnswerRecords
from assistant.aws.clients import open_client
from assistant.aws.dynamodb_records import DynamoDbAnswerRecords
from assistant.domain.answers import AnswerRecord, FinishReason, Verdict, VerdictLabel
from assistant.embedded.feedback import FolderFeedbackFiles, SqliteErasureKeys
from assistant.learning.feedback_store import StoredFeedback
from assistant.settings.process import WorkerSettings
from assistant.settings.tenant import load_tenant
from assistant.wiring.feedback import open_movers
from assistant.wiring.stores import embedded_tenant
from tests.contracts import samples
from tools.processes import started

_ROUNDS, _ANSWERS, _AT_ONCE = 7, 400, 10
_VERDICTS = 60
_LONGEST_S = 30.0
_EVENTS = 20_000
_TENANT = 'schema_version = 1\nname = "clinic"\ndisplay_name = "Clinic"\n'
_PLAIN = samples.answer().model_copy(update={"question": "x" * 3500})
_SIGNAL = _PLAIN.model_copy(update={"finish_reason": FinishReason.NO_EVIDENCE})


async def measure() -> None:
    with started("benchmarks.record_calls", "--serve", "0.005") as stand_in:
        async with open_client("dynamodb", region="us-east-1", endpoint_url=stand_in.url) as client:
            records = DynamoDbAnswerRecords(client, table="records")
            await _cost(records)
            await records.close()
    with tempfile.TemporaryDirectory() as folder:
        await _delay(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        await _reading(Path(folder))


async def _cost(records: AnswerRecords) -> None:
    """Compare in turns, so that what else the machine does falls on both."""
    await _cpu_us(records, _PLAIN)
    rounds = [(await _cpu_us(records, _PLAIN), await _cpu_us(records, _SIGNAL)) for _ in range(_ROUNDS)]
    plain, signal = (median(side) for side in zip(*rounds, strict=True))
    print(
        f"recording an answer: {plain:.0f} µs of CPU, of a signal {signal:.0f} µs: "
        f"{signal / plain:.2f} times, {(signal - plain) / 1000:+.3f} ms"
    )


async def _cpu_us(records: AnswerRecords, record: AnswerRecord) -> float:
    async def some(worker: int) -> None:
        for number in range(_ANSWERS // _AT_ONCE):
            await records.put_answer(record.model_copy(update={"answer_id": f"a{worker}-{number}"}))

    began_s = time.process_time()
    await asyncio.gather(*(some(worker) for worker in range(_AT_ONCE)))
    return (time.process_time() - began_s) / _ANSWERS * 1e6


async def _delay(folder: Path) -> None:
    (folder / "tenants").mkdir()
    (folder / "tenants" / "clinic.toml").write_text(_TENANT)
    tenant = load_tenant(folder / "tenants" / "clinic.toml")
    stores = embedded_tenant(tenant, state_dir=folder / "state")
    await stores.records.put_answer(samples.answer())
    command = (sys.executable, "-m", "benchmarks.feedback", "--move", str(folder))
    quiet = asyncio.subprocess.DEVNULL
    mover = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
    random, delays_s = Random(1), list[float]()
    try:
        for number in range(_VERDICTS):
            verdict = Verdict(verdict_id=f"v{number}", label=VerdictLabel.GOOD)
            await stores.records.append_verdict("a1", verdict, agent="ana")
            began_s = time.monotonic()
            while len(list((folder / "state").rglob("*.jsonl"))) <= number:
                assert time.monotonic() < began_s + _LONGEST_S, "the event did not come"
                await asyncio.sleep(0.005)
            delays_s.append(time.monotonic() - began_s)
            await asyncio.sleep(random.uniform(0.0, 0.6))
    finally:
        mover.terminate()
        await mover.wait()
        await stores.close()
    later = delays_s[1:]  # the first waits for the process to start
    print(
        f"a verdict is in the feedback store after {median(later):.2f} s, "
        f"p95 {quantiles(later, n=20)[-1]:.2f} s, at most {max(later):.2f} s (n = {len(later)})"
    )


async def _reading(folder: Path) -> None:
    keys = SqliteErasureKeys(folder / "erasure.sqlite")
    store = StoredFeedback(FolderFeedbackFiles(folder), tenant="clinic", keys=keys)
    shown = [f"document-{number}" for number in range(20)]
    features = {f"feature_{number}": number / 7 for number in range(16)}
    first = samples.event(shown=shown)
    documents = tuple(one.model_copy(update={"features": features}) for one in first.documents)
    for start in range(0, _EVENTS, 500):
        events = [samples.event(number, minute=number // 50) for number in range(start, start + 500)]
        await store.append([event.model_copy(update={"documents": documents}) for event in events], [])
    began_s, count = time.process_time(), 0
    async for _ in store.read(samples.NOON, samples.NOON + timedelta(days=2)):
        count += 1
    assert count == _EVENTS
    spent_s = time.process_time() - began_s
    await keys.close()
    print(f"reading {count} events: {spent_s:.1f} s of CPU, {spent_s / count * 1e6:.0f} µs an event")


async def _move(folder: Path) -> None:
    settings = WorkerSettings.read(tenants_dir=folder / "tenants", state_dir=folder / "state")
    async with open_movers(settings) as movers:
        await asyncio.gather(*(move.run(asyncio.Event()) for move in movers))


if __name__ == "__main__":
    asyncio.run(_move(Path(sys.argv[2])) if sys.argv[1:2] == ["--move"] else measure())
