"""Many agents for a long time, while processes are killed, the disk is full, and stores and models are slow.

``SOAK_S`` seconds (a short time unless told; ``check-soak`` takes an hour, with 50 agents). After a
third of it the service is not killed any more, and in the last third its memory may not grow: its caches,
each with a bound, are full some eight minutes after its start, and the most answers at once were there by
then. What is judged is as after the kills: nothing lost, doubled or public.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from tests.breaking.agents import (
    COMMON,
    PARTS,
    Agents,
    Knowledge,
    Part,
    Site,
    at_work,
    bring_again,
    bring_stock,
    faults_of_answers,
    faults_of_documents,
    own,
    running_site,
)
from tests.stage.running_service import eventually
from tests.stage.sagemaker_runtime import SageMakerSocket

SOAK_S = float(os.environ.get("SOAK_S", "20"))
AGENTS = int(os.environ.get("AGENTS", "10"))
SEED = os.environ.get("SEED", "1")
JUDGED_FROM_S = 1800.0
"""A shorter time has no slope: caches fill in its minutes."""
MOST_GROWTH_MIB_AN_HOUR = 10.0
_PAUSE_S = (1.0, 6.0)
_FAULT_S = 3.0
_SAMPLE_S = 2.0
_UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@dataclass
class Disturbance:
    """What goes wrong on a machine in a day, in minutes."""

    site: Site
    sagemaker: SageMakerSocket
    random: Random
    counts: dict[str, int] = field(default_factory=dict[str, int])

    async def go_on(self, *, until_s: float, victims: tuple[Part, ...]) -> None:
        """Disturb the site at drawn points in time; ``victims`` are the processes that may be killed."""
        faults: dict[str, Callable[[], Awaitable[None]]] = {
            "full disk": self._full_disk,
            "slow store": self._slow_store,
            "slow model": self._slow_model,
            **{f"{part} killed": _killing(self.site, part) for part in victims},
        }
        while time.monotonic() < until_s:
            name = self.random.choice(sorted(faults))
            await faults[name]()
            self.counts[name] = self.counts.get(name, 0) + 1
            await asyncio.sleep(self.random.uniform(*_PAUSE_S))  # the point in time is what is drawn

    async def _full_disk(self) -> None:
        """Files of both processes cannot grow. They write their logs through another one."""
        children = [self.site.children[part] for part in PARTS]
        for child in children:
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        await asyncio.sleep(_FAULT_S)
        for child in children:
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, _UNLIMITED)

    async def _slow_store(self) -> None:
        """Hold the write lock of one store, as a slow disk would."""
        store = self.random.choice(sorted(self.site.tenant_folder.rglob("*.sqlite")))
        await asyncio.to_thread(_hold, store)

    async def _slow_model(self) -> None:
        pace_s, self.sagemaker.pace_s = self.sagemaker.pace_s, 1.0
        await asyncio.sleep(_FAULT_S)
        self.sagemaker.pace_s = pace_s


def _hold(store: Path) -> None:
    with closing(sqlite3.connect(store, timeout=_FAULT_S, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # others write all the time: it was busy enough
            return
        time.sleep(_FAULT_S)
        connection.execute("ROLLBACK")


def _killing(site: Site, part: Part) -> Callable[[], Awaitable[None]]:
    async def kill() -> None:
        await site.kill(part)
        await site.begin(part)
        await site.ready(part)

    return kill


async def memory_of(pid: int, *, until_s: float) -> list[tuple[float, float]]:
    """Return (hours, resident MiB) of a process until then."""
    began_s, samples = time.monotonic(), list[tuple[float, float]]()
    while (now_s := time.monotonic()) < until_s:
        samples.append(((now_s - began_s) / 3600, _resident_mib(pid)))
        await asyncio.sleep(_SAMPLE_S)
    return samples


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def slope_of(samples: list[tuple[float, float]]) -> float:
    """Return MiB an hour by least squares of each minute's least; 0 for less than two minutes.

    The first half is left out, in which caches fill. A slow model makes answers wait, and their memory is
    given back after it: what is lost for good raises the least.
    """
    minutes = defaultdict[int, list[float]](list)
    for hours, mebibytes in samples[len(samples) // 2 :]:
        minutes[int(hours * 60)].append(mebibytes)
    least = [min(measured) for measured in minutes.values()]
    if len(least) < 2:
        return 0.0
    return 60 * statistics.linear_regression(list(minutes), least).slope


@pytest.mark.timeout(3 * 3600)
async def test_a_long_bad_day_loses_doubles_and_opens_nothing(tmp_path: Path) -> None:
    async with running_site(tmp_path) as (site, sagemaker), site.client() as client:
        sagemaker.texts = [f"{sentence} " for sentence in COMMON]
        sagemaker.pace_s = 0.15
        knowledge, stopping = Knowledge(site, client), asyncio.Event()
        agents = Agents(knowledge, client)

        def drawn(what: object) -> Random:
            return Random(f"{SEED} {what}")  # noqa: S311 (no secret)

        await bring_stock(knowledge, [f"first-{each}" for each in range(20)])
        for document in knowledge.documents.values():
            await knowledge.takes_effect(document)
        disturbance = Disturbance(site, sagemaker, drawn("faults"))
        async with at_work(
            bring_again(knowledge, [f"stock-{each}" for each in range(30)], stopping),
            own(knowledge, [f"own-{each}" for each in range(6)], drawn("owner"), stopping),
            *(agents.ask(f"ann-{each}", stopping, drawn(f"asks {each}")) for each in range(AGENTS)),
            agents.look_for_hidden(stopping, drawn("looks")),
        ):
            began_s = time.monotonic()
            await disturbance.go_on(until_s=began_s + SOAK_S / 3, victims=PARTS)
            ends_s = began_s + SOAK_S
            watched = asyncio.create_task(memory_of(site.children["service"].pid, until_s=ends_s))
            await disturbance.go_on(until_s=ends_s, victims=("worker",))
            slope = slope_of(await watched)
            await eventually(lambda: bool(agents.looks and agents.reads))
            stopping.set()
        faults = (
            agents.faults + await faults_of_documents(site, knowledge) + await faults_of_answers(site, agents)
        )
        whole = sum(how == "done" for asked in agents.asked for how in asked.ended.values())
        print(  # noqa: T201 (figures of the day)
            f"{disturbance.counts}; {len(agents.asked)} questions of {AGENTS} agents, {whole} whole answers; "
            f"{knowledge.accepted} changes of documents; {agents.looks} looks and {agents.reads} reads "
            f"without the label; memory {slope:+.1f} MiB an hour"
        )
    assert whole
    assert not faults, "\n".join([f"{len(faults)} faults with SEED={SEED}", *faults[:40]])
    assert SOAK_S < JUDGED_FROM_S or slope <= MOST_GROWTH_MIB_AN_HOUR
