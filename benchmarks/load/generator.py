"""The load generator, a process of its own: one plan in, one outcome out.

python -m benchmarks.load.generator < plan.json
"""

from __future__ import annotations

import asyncio
import resource
import time
from typing import Any

from benchmarks.load.answer_client import AnswerClient, Reply, SseEvent, text_of
from benchmarks.load.asking import connect, limited
from benchmarks.load.interrupted_runs import run_killed, run_resumed
from benchmarks.load.plans import LoadOutcome, LoadPlan
from benchmarks.load.process_main import read_plan, run_until_told, say
from benchmarks.load.questions import expected_text


async def run(plan: LoadPlan) -> LoadOutcome:
    """Run the plan, then judge every answer: judging is not part of the load."""
    outcome = LoadOutcome()
    cpu_s, began_s = _cpu_s(), time.perf_counter()
    if plan.run in ("resumed", "killed"):
        await (run_resumed if plan.run == "resumed" else run_killed)(plan, outcome)
    else:
        replies = await (_streams(plan) if plan.run == "streams" else _rate(plan))
        outcome.wall_s, outcome.cpu_s = time.perf_counter() - began_s, _cpu_s() - cpu_s
        for reply, counts in replies:
            judge(reply, plan, outcome, counts=counts)
        return outcome
    outcome.wall_s, outcome.cpu_s = time.perf_counter() - began_s, _cpu_s() - cpu_s
    return outcome


async def _streams(plan: LoadPlan) -> list[tuple[Reply, bool]]:
    """Each stream asks one question after the other. When there are several, the first one's wait for its
    text does not count: not all streams run yet."""

    async def one(stream: int) -> list[tuple[Reply, bool]]:
        await asyncio.sleep(plan.ramp_s * stream / plan.streams)
        client = await connect(plan.url)
        replies: list[tuple[Reply, bool]] = []
        for turn in range(plan.answers):
            number = plan.first_question + turn * plan.streams + stream
            if not client.connected:
                client = await connect(plan.url)
            reply = await _ask(client, plan, number, stream=stream)
            replies.append((reply, turn > 0 or plan.answers == 1))
        client.cut()
        return replies

    return [reply for replies in await asyncio.gather(*map(one, range(plan.streams))) for reply in replies]


async def _rate(plan: LoadPlan) -> list[tuple[Reply, bool]]:
    """Ask as fast as answers come, until the time is over; the answers under way are still read."""
    until_s = time.perf_counter() + plan.duration_s
    numbers = iter(range(plan.first_question, plan.first_question + 10_000_000))
    replies: list[tuple[Reply, bool]] = []

    async def one(stream: int) -> None:
        client = await connect(plan.url)
        while time.perf_counter() < until_s:
            if not client.connected:
                client = await connect(plan.url)
            replies.append((await _ask(client, plan, next(numbers), stream=stream), True))
        client.cut()

    await asyncio.gather(*map(one, range(plan.streams)))
    return replies


async def _ask(client: AnswerClient, plan: LoadPlan, number: int, *, stream: int) -> Reply:
    ending = client.ask(number, plan.request(number, stream=stream))
    return await limited(client, ending, timeout_s=plan.timeout_s)


def judge(reply: Reply, plan: LoadPlan, outcome: LoadOutcome, *, counts: bool) -> None:
    """Count an answer: right to the last character, or by what is wrong with it."""
    events = reply.events()
    if reply.status() != 200:
        outcome.fail(reply.refusal())
    elif reply.ended_s is None:
        outcome.fail("broke off")
    elif not events or events[-1].name != "done":
        outcome.fail(_ending(events))
    elif text_of(events) != expected_text(reply.number, tokens=plan.tokens):
        outcome.fail("another text")
    else:
        outcome.answers += 1
        outcome.tokens += plan.tokens
        if events[0].name == "started":
            outcome.answer_ids.append(events[0].data["answer_id"])
        if counts and reply.first_text_s is not None:
            outcome.first_text_ms.append((reply.first_text_s - reply.asked_s) * 1000)


def _ending(events: list[SseEvent]) -> str:
    if not events:
        return "no event"
    last = events[-1]
    return f"ended with {last.data.get('code')}" if last.name == "error" else f"ended after {last.name}"


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main(plan: dict[str, Any]) -> None:
    say((await run(LoadPlan(**plan))).as_line())


if __name__ == "__main__":
    run_until_told(main(read_plan()))
