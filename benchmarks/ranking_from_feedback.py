"""How long learning ranker weights takes from the feedback store, and how much memory.

``python -m benchmarks.ranking_from_feedback``: 100,000 answers with twenty candidates each and a verdict, in
the embedded store. A process of its own reads, joins, estimates and fits; no cap leaves any out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from assistant.answering.retrieve import shipped_weights
from assistant.domain.feedback import FeedbackEvent
from assistant.embedded.feedback import FolderFeedbackFiles, SqliteErasureKeys
from assistant.learning.feedback_store import StoredFeedback
from assistant.tuning.ranking import LearningPlan, learn
from assistant.tuning.signals import Caps, SignalCollector
from tests.fakes.synthetic_feedback import DAY, START, Agents, World, feedback

LIMIT_S, LIMIT_MIB = 60.0, 1024.0
_WORLD = World(change={"title_cosine": 0.5}, offsets={"d3": 0.5}, documents=441, candidates=20)
_DAYS = 28
_GROUP = 500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signals", type=int, default=100_000)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.store is not None:
        asyncio.run(_learn(arguments.store))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_fill(Path(folder), arguments.signals))
        command = [sys.executable, "-m", "benchmarks.ranking_from_feedback", "--store", folder]
        measured = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    met = measured["wall_s"] <= LIMIT_S and measured["peak_mib"] <= LIMIT_MIB
    print(
        f"{measured['signals']} signals: {measured['wall_s']:.1f} s ({measured['cpu_s']:.1f} s of CPU, of "
        f"which {measured['read_cpu_s']:.1f} s read and join), at most {LIMIT_S:g} s; peak "
        f"{measured['peak_mib']:.0f} MiB, at most {LIMIT_MIB:g} MiB: {'met' if met else 'MISSED'}"
    )
    return 0 if met else 1


async def _fill(folder: Path, signals: int) -> None:
    store = _store(folder)
    group: list[FeedbackEvent] = []
    for event in feedback(signals, _WORLD, Agents(count=40, opens=0.3), days=_DAYS):
        group.append(event)
        if len(group) == _GROUP:
            await store.append(group, [])
            group = []
    await store.append(group, [])


def _store(folder: Path) -> StoredFeedback:
    keys = SqliteErasureKeys(folder / "erasure.sqlite")
    return StoredFeedback(FolderFeedbackFiles(folder / "feedback"), tenant="pharmacy", keys=keys)


async def _learn(folder: Path) -> None:
    began_s = time.monotonic()
    shipped = shipped_weights("ranker")
    collector = SignalCollector(tenant="pharmacy", rankers={shipped.sha256: shipped})
    async for event in _store(folder).read(START, START + (_DAYS + 1) * DAY):
        collector.add(event)
    read_cpu_s = time.process_time()
    every = 10**9
    caps = Caps(per_agent_day=every, per_agent=every, per_conversation=every, per_question=every)
    learned = learn(collector.signals(seed=0, caps=caps), LearningPlan())
    measured = {
        "signals": learned.signals,
        "wall_s": time.monotonic() - began_s,
        "cpu_s": time.process_time(),
        "read_cpu_s": read_cpu_s,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    sys.exit(main())
