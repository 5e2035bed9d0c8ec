"""kill -9 of the process that moves feedback, at seeded points: no act is lost, and none is read twice.

``KILLS=50`` and a new seed in ``check-kills``; a few here. ``python -m tests.breaking.test_mover_kills PLACE
SEED KILLS``: each round adds signals, forks a process that moves them, and ends it by SIGKILL after a seeded
number of calls: anywhere in the mover, the stores or their threads. At the end one mover runs undisturbed,
and a JSON line on stdout says how many acts were read, and how often.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import pytest
import structlog

from assistant.domain.answers import Act, AgentAct, Sent, Verdict, VerdictLabel
from assistant.domain.clock import SystemClock
from assistant.domain.desk import DeskKind
from assistant.options.desk.feedback_store import unseal_all
from assistant.options.desk.intake import OpenCases
from assistant.options.desk.mover import OUTBOX
from assistant.text.language import language
from tests.options.desk.moving import LaterClock, Moving, answered, moving, unanswered
from tests.stage import processes

KILLS = int(os.environ.get("KILLS", "4"))
SEED = int(os.environ.get("SEED", "7"))


ACTS_A_ROUND = 4
Work = Callable[[Moving], Coroutine[Any, Any, object]]


async def act(scene: Moving, number: int) -> None:
    """Add one round's signals: a verdict, a send, an opened source and a question without an answer."""
    records, name = scene.stores.records, f"a{number}"
    await records.put_answer(answered(name))
    verdict = Verdict(verdict_id=f"v{number}", label=VerdictLabel.BAD, better_text="M-77 may come.")
    await records.append_verdict(name, verdict, agent="ana")
    await records.append_sent(name, Sent(send_id=f"s{number}", text="Take 10 mg twice a day."), agent="ana")
    await records.append_act(name, Act(act_id=f"o{number}", kind=AgentAct.OPENED_SOURCE, n=1), agent="ana")
    await records.put_answer(unanswered(f"u{number}"))


async def move(scene: Moving) -> None:
    while await scene.move():
        pass


async def in_scene(place: Path, work: Work) -> object:
    async with moving(place, clock=LaterClock()) as scene:
        cases = OpenCases(
            scene.stores.desk,
            records=scene.stores.records,
            language=language("en"),
            clock=SystemClock(),
            most_of_agent=1_000,
        )
        scene.desk = cases  # pyright: ignore[reportAttributeAccessIssue]
        return await work(scene)


def forked(place: Path, work: Work, *, kill_after: int | None = None) -> tuple[bool, int]:
    return processes.forked(lambda: in_scene(place, work), kill_after=kill_after)


async def judged(scene: Moving) -> dict[str, Any]:
    """Return what is in the stores: acts by how often they are read, readable texts, cases."""
    events = await scene.events()
    texts = await scene.feedback.texts([event.text_id or "" for event in events])
    words = await unseal_all(texts.values(), scene.stores.erasure_keys)
    cases = await scene.stores.desk.list(DeskKind.CASE)
    return {
        "events": dict(Counter(event.event_id for event in events)),
        "readable": len(words),
        "cases": len(cases),
        "pending": len(await scene.stores.get(OUTBOX).pending()),
    }


def main(place: Path, seed: int, kills: int) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    random = Random(seed)  # noqa: S311 (no secret)
    forked(place, lambda scene: act(scene, 0))
    _, all_calls = forked(place, move)
    killed = rounds = 0
    while killed < kills:
        rounds += 1
        forked(place, lambda scene, number=rounds: act(scene, number))
        was_killed, _ = forked(place, move, kill_after=random.randrange(all_calls))
        killed += was_killed
    forked(place, move)
    found: Any = asyncio.run(in_scene(place, judged))
    found |= {"killed": killed, "acts": ACTS_A_ROUND * (rounds + 1), "calls": all_calls}
    found["doubled"] = sum(times > 1 for times in found["events"].values())
    found["events"] = len(found["events"])
    sys.stdout.write(json.dumps(found) + "\n")


@pytest.mark.timeout(700)
def test_a_killed_mover_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.breaking.test_mover_kills", str(tmp_path), str(SEED), str(KILLS)],
        stdout=subprocess.PIPE,
        timeout=600,
        check=True,
    )
    found = json.loads(ended.stdout.splitlines()[-1])
    found["seed"] = SEED
    assert found["killed"] == KILLS, found
    assert (found["events"], found["doubled"], found["pending"]) == (found["acts"], 0, 0), found
    assert found["readable"] == found["acts"]
    # A bad verdict, a changed dose and an unanswered question of each round, once.
    assert found["cases"] == 3 * found["acts"] // 4


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
