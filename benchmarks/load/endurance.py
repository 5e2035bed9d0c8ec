"""The figures of the service alone: memory over rounds, cut streams, a killed task, records found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from assistant.aws.clients import open_client
from assistant.aws.dynamodb_records import DynamoDbAnswerRecords
from benchmarks.load.efforts import Effort
from benchmarks.load.plans import LoadOutcome
from benchmarks.load.scene import RECORDS_TABLE, REGION, Run, Scene
from benchmarks.load.started_processes import Started

_RAMP_S = 2.0
_FIND_TIMEOUT_S = 10.0
_SETTLE_S = 1.0
_READERS = 32


@dataclass(frozen=True, slots=True)
class Rounds:
    """The same load again and again on one process."""

    streams: int
    runs: Sequence[Run]
    resident_bytes: Sequence[int]
    """After each round."""
    peak_bytes: int

    @property
    def growth_bytes(self) -> int:
        """From the second round's end to the last one's."""
        return self.resident_bytes[-1] - self.resident_bytes[min(1, len(self.resident_bytes) - 1)]


def measure_rounds(scene: Scene, effort: Effort, *, say: Callable[[str], None]) -> Rounds:
    """Run many streams five times on a fresh service."""
    service = scene.start_warm_service()
    scene.pace(tokens=effort.stream_tokens)
    runs: list[Run] = []
    resident: list[int] = []
    for number in range(effort.rounds):
        say(f"memory: round {number + 1} of {effort.rounds}")
        tokens = effort.stream_tokens
        runs.append(
            scene.load(service, run="streams", streams=effort.many_streams, ramp_s=_RAMP_S, tokens=tokens)
        )
        time.sleep(_SETTLE_S)  # what an answer leaves behind (records, log) is done by then
        resident.append(service.resident_bytes())
    peak = _peak_bytes(service)
    service.stop()
    scene.pace()
    return Rounds(effort.many_streams, runs, resident, peak)


def measure_resumed(scene: Scene, service: Started, effort: Effort) -> Run:
    """Cut every stream at a random point and let it go on."""
    return scene.load(service, run="resumed", streams=effort.resumed_streams, ramp_s=_RAMP_S * 2, seed=1)


def measure_killed(scene: Scene, effort: Effort) -> LoadOutcome:
    """Kill one of two services on the same store while both stream; its clients go on at the other."""
    doomed, other = scene.start_warm_service(), scene.start_warm_service()
    streams = effort.killed_streams
    with scene.loading(
        doomed, run="killed", streams=streams, ramp_s=_RAMP_S, resume_url=other.url, seed=2
    ) as generator:
        generator.begun()
        doomed.kill()
        outcome = generator.outcome()
    other.stop()
    return outcome


def count_missing_records(scene: Scene, answer_ids: Sequence[str]) -> int:
    """Ask the store, by the product's own adapter, for the record of every answer; return how many it lacks.

    A record that is still on its way is waited for, at most 10 s.
    """
    return asyncio.run(_missing(scene.stand_ins.url, answer_ids))


async def _missing(url: str, answer_ids: Sequence[str]) -> int:
    missing = list(answer_ids)
    until_s = time.monotonic() + _FIND_TIMEOUT_S
    async with open_client("dynamodb", region=REGION, endpoint_url=url) as client:
        records = DynamoDbAnswerRecords(client, table=RECORDS_TABLE)
        try:
            while missing and time.monotonic() < until_s:
                missing = await _without_record(records, missing)
        finally:
            await records.close()
    return len(missing)


async def _without_record(records: DynamoDbAnswerRecords, answer_ids: Sequence[str]) -> list[str]:
    places = asyncio.Semaphore(_READERS)

    async def lacks(answer_id: str) -> bool:
        async with places:
            return await records.get_answer(answer_id) is None

    found = await asyncio.gather(*map(lacks, answer_ids))
    return [answer_id for answer_id, missing in zip(answer_ids, found, strict=True) if missing]


def _peak_bytes(process: Started) -> int:
    """Return the most memory that a process ever held (Linux: VmHWM)."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
