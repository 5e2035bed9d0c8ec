"""Kills a mover of feedback again and again: ``python -m tests.breaking.moving_process PLACE SEED KILLS``.

Each round adds signals, forks a process that moves them, and ends it by SIGKILL after a seeded number of
calls: anywhere in the mover, the stores or their threads. At the end one mover runs undisturbed, and a JSON
line on stdout says how many acts were read, and how often.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import structlog

from assistant.domain.answers import Act, AgentAct, Sent, Verdict, VerdictLabel
from assistant.domain.clock import SystemClock
from assistant.domain.desk import DeskKind
from assistant.options.desk.feedback_store import unseal_all
from assistant.options.desk.intake import OpenCases
from assistant.options.desk.mover import OUTBOX
from assistant.text.language import language
from tests.fakes import killed_calls
from tests.options.desk.moving import LaterClock, Moving, answered, moving, unanswered

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
    return killed_calls.forked(lambda: in_scene(place, work), kill_after=kill_after)


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


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
