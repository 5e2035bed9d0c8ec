"""``kill -9`` of worker and service at random points, under concurrent adds, withdrawals and answers.

``KILLS`` points (3 unless told; ``check-kills`` takes 50), drawn by ``SEED``. The product runs as its
processes do, on a state folder of its own; all that is asked of it goes over HTTP.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from random import Random

import pytest

from tests.breaking.agents import (
    COMMON,
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

KILLS = int(os.environ.get("KILLS", "3"))
SEED = int(os.environ.get("SEED", "1"))
STOCK = min(300, 25 * KILLS)
"""Documents of a wave: the run ends with a whole wave, so few kills take few documents."""
OWNERS = 4
DOCUMENTS_AN_OWNER = 6
ASKING = 12
LOOKING = 2
_LONGEST_LIFE_S = 5.0
_DIES_YOUNG = 0.15
"""Share of the kills that come while the process starts."""
_YOUNG_S = 1.0
_VICTIMS: tuple[tuple[Part, ...], ...] = (("worker",), ("service",), ("service", "worker"))


def drawn(what: object) -> Random:
    """Return the random numbers of one actor."""
    return Random(f"{SEED} {what}")  # noqa: S311 (no secret)


async def kill_again_and_again(site: Site, random: Random) -> None:
    for _ in range(KILLS):
        await asyncio.sleep(random.uniform(0.0, _LONGEST_LIFE_S))  # the point in time is what is drawn
        parts = random.choice(_VICTIMS)
        for part in parts:
            await site.kill(part)
        for part in parts:
            await site.begin(part)
        if random.random() < _DIES_YOUNG:
            await asyncio.sleep(random.uniform(0.0, _YOUNG_S))
            for part in parts:
                await site.kill(part)
                await site.begin(part)
        for part in parts:
            await site.ready(part)


@pytest.mark.timeout(1800)
async def test_kills_lose_double_open_and_fail_nothing(tmp_path: Path) -> None:
    began_s = time.monotonic()
    async with running_site(tmp_path) as (site, sagemaker), site.client() as client:
        sagemaker.texts = [f"{sentence} " for sentence in COMMON]
        sagemaker.pace_s = 0.15
        knowledge, stopping = Knowledge(site, client), asyncio.Event()
        agents = Agents(knowledge, client)
        await bring_stock(knowledge, [f"first-{number}" for number in range(20)])
        for document in knowledge.documents.values():  # from now on there is always something to answer from
            await knowledge.takes_effect(document)
        async with at_work(
            bring_again(knowledge, [f"stock-{number}" for number in range(STOCK)], stopping),
            *(
                own(
                    knowledge,
                    [f"own-{owner}-{number}" for number in range(DOCUMENTS_AN_OWNER)],
                    drawn(f"owner {owner}"),
                    stopping,
                )
                for owner in range(OWNERS)
            ),
            *(agents.ask(f"ann-{number}", stopping, drawn(f"asks {number}")) for number in range(ASKING)),
            *(agents.look_for_hidden(stopping, drawn(f"looks {number}")) for number in range(LOOKING)),
        ):
            await kill_again_and_again(site, drawn("kills"))
            await eventually(lambda: bool(agents.looks and agents.reads))  # few kills are over soon
            stopping.set()
        killed_s = time.monotonic() - began_s
        faults = (
            agents.faults + await faults_of_documents(site, knowledge) + await faults_of_answers(site, agents)
        )
    whole = sum(how == "done" for asked in agents.asked for how in asked.ended.values())
    interrupted = sum(how == "interrupted" for asked in agents.asked for how in asked.ended.values())
    kills = {part: len(at_s) for part, at_s in site.killed_at_s.items()}
    print(  # noqa: T201 (figures of the run)
        f"seed {SEED}: {kills} kills in {killed_s:.0f} s; {knowledge.accepted} changes accepted of"
        f" {len(knowledge.documents)} documents; {len(agents.asked)} questions, {whole} whole answers,"
        f" {interrupted} interrupted; {agents.looks} looks and {agents.reads} reads without the label;"
        f" slowest withdrawal {max(knowledge.withdrawals_s, default=0.0):.1f} s"
    )
    assert not faults, "\n".join([f"{len(faults)} faults with SEED={SEED}", *faults[:40]])
    assert whole
    assert agents.looks
    assert agents.reads
