"""The figures of live elements: ``python -m benchmarks.elements``.

The tag parser's time is shown beside a bare loop over the same parts; how late a ready element is beside a
task that only waits as the systems do, at the same time on the same loop. So a busy machine shows in both.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from assistant.answering.events import Token
from assistant.answering.prepare import AnswerRequest
from assistant.answering.use_case import AnswerQuestion
from assistant.domain.clock import Deadline
from assistant.live.markup import MarkupParser, Tag
from assistant.live.ports import Caller, Filled
from tests.fakes.answering import FakeTenant, agent, document
from tests.fakes.live import FakeLive, of_customer
from tests.fakes.running_service import RunningService, Scene, running_service

STREAMS, ELEMENTS = 50, 5
_ROUNDS = 7
_TAGS = 10_000
_SYSTEM_S = 2.0
_TOKEN_CHARACTERS = 4
_QUESTION = "On which day are retail refills payable?"
_STEP = "Retail refills are payable on day 23 of 30"
_SOURCES = """
[[sources]]
name = "knowledge"
namespace = ""
elements = true

[care_context]
issuer = "https://care.test"
plain_ids = true
"""
_NAMES = ("orders.status", "orders.summary", "stores.stock", "orders.status", "orders.summary")


def best_us(work: Callable[[], object], *, per: int) -> float:
    """Return the least CPU time of several rounds, in microseconds for each of ``per`` items."""
    times: list[float] = []
    for _ in range(_ROUNDS):
        began_s = time.process_time()
        work()
        times.append(time.process_time() - began_s)
    return min(times) / per * 1e6


def parse(parts: Sequence[str], *, most: int) -> None:
    parser = MarkupParser(_is_known, most=most)
    for part in parts:
        parser.push(part)
    parser.flush()


def _is_known(tag: Tag) -> bool:
    return tag.name == "orders.status"


def bare(parts: Sequence[str]) -> None:
    seen: list[str] = []
    for part in parts:
        seen.append(part)


def measure_parser() -> None:
    plain = "The wait is two days. Tell the caller that the order is on its way. " * 3_000
    tagged = "{{orders.status}} is on its way. " * 6_000
    for name, text in (("plain text", plain), ("a tag in 8 tokens", tagged)):
        parts = [text[at : at + _TOKEN_CHARACTERS] for at in range(0, len(text), _TOKEN_CHARACTERS)]
        ours = best_us(lambda parts=parts: parse(parts, most=len(parts)), per=len(parts))
        loop = best_us(lambda parts=parts: bare(parts), per=len(parts))
        print(f"parser, {name}: {ours:.2f} µs a token of 4 characters; bare loop {loop:.3f} µs")
    text = "{{orders.status}} " * _TAGS
    for name, parts in (("in one part", [text]), ("a character at a time", list(text))):
        ms = best_us(lambda parts=parts: parse(parts, most=_TAGS), per=1) / 1000
        print(f"parser, {_TAGS:,} tags {name}: {ms:.1f} ms")


@dataclass
class TimedLive(FakeLive):
    """Systems that answer each read at an instant of their own, and note it."""

    answered_s: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """By answer, on the loop's clock."""
    timers_late_ms: list[float] = field(default_factory=list[float])
    least_s: float = 0.3

    async def fill(self, name: str, caller: Caller, *, deadline: Deadline) -> Filled:  # noqa: ARG002
        number = len(self.calls)
        self.calls.append((name, caller))
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self.least_s + (number * 37 % 250) / 1000
        await asyncio.sleep(due_s - loop.time())
        self.timers_late_ms.append((loop.time() - due_s) * 1000)
        self.answered_s.setdefault(caller.answer_id or "", []).append(due_s)
        return self.filled(name, caller)


def tenant_with(live: FakeLive | None, *, elements: int) -> FakeTenant:
    tenant = FakeTenant().with_documents(document(content=step_of(elements)))
    tenant.live_elements = live
    source = {"name": "knowledge", "namespace": "", "elements": True}
    tenant.config = tenant.config.model_validate(tenant.config.model_dump() | {"sources": [source]})
    return tenant


def step_of(elements: int) -> str:
    return f"{_STEP} {' '.join(f'{{{{{name}}}}}' for name in _NAMES[:elements])}."


async def measure_ready() -> None:
    """Ask over HTTP: service, its stores, 50 clients and the systems are one process."""
    live = TimedLive()
    scene = Scene(
        tenants=("clinic",),
        writes=False,
        live=live,
        more_of_tenants=_SOURCES,
        streams=64,
        streams_per_agent=64,
    )
    with tempfile.TemporaryDirectory() as folder:
        async with running_service(Path(folder), scene) as service:
            await service.know("refill", step_of(ELEMENTS))
            await service.answered(body={"context": _context(0)})
            began_cpu_s = time.process_time()
            found = await asyncio.gather(*(_ready_times(service, number) for number in range(STREAMS)))
            cpu_s = time.process_time() - began_cpu_s
    late_ms = sorted(
        (at - was) * 1000
        for answer_id, ready in found
        for was, at in zip(sorted(live.answered_s[answer_id]), sorted(ready), strict=True)
    )
    timers_ms = sorted(live.timers_late_ms)
    print(
        f"element ready after its system answered, {STREAMS} streams of {ELEMENTS} over HTTP: "
        f"p50 {_at(late_ms, 0.5):.1f} ms, p95 {_at(late_ms, 0.95):.1f} ms ({len(late_ms)} elements); "
        f"bare timers p95 {_at(timers_ms, 0.95):.1f} ms; {cpu_s:.2f} s of CPU, clients included"
    )


async def _ready_times(service: RunningService, number: int) -> tuple[str, list[float]]:
    """Return the answer's id, and when each element was ready at its client."""
    body = {"question": _QUESTION, "context": _context(number)}
    headers = service.headers(f"agent-{number}", accept="text/event-stream")
    ready: list[float] = []
    answer_id = ""
    async with service.client.stream("POST", "/v1/answers", json=body, headers=headers) as response:
        async for line in response.aiter_lines():
            if line.startswith("id: "):
                answer_id = line[4:].partition(":")[0]
            elif '"state":"ready"' in line:
                ready.append(asyncio.get_running_loop().time())
    return answer_id, ready


def _context(number: int) -> dict[str, object]:
    return {"customer": f"c{number}", "ids": {"order": [f"order-c{number}"]}}


async def measure_first_text() -> None:
    """Compare the first text of answers with slow systems, and of the same answers without any."""
    slow = tenant_with(TimedLive(least_s=_SYSTEM_S - 0.3), elements=ELEMENTS)
    none = tenant_with(None, elements=ELEMENTS)
    use_cases = AnswerQuestion(slow.services), AnswerQuestion(none.services)
    times_ms: tuple[list[float], list[float]] = [], []
    waiting: set[asyncio.Task[None]] = set()
    for number in range(40):
        for place, (use_case, tenant) in enumerate(zip(use_cases, (slow, none), strict=True)):
            told = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(_first_text_ms(use_case, tenant, number, told))
            waiting.add(task)
            times_ms[place].append(await told)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    with_ms, without_ms = (sorted(one[5:]) for one in times_ms)
    print(
        f"first text with all systems slow ({_SYSTEM_S:.0f} s): p50 {_at(with_ms, 0.5):.2f} ms, p95 "
        f"{_at(with_ms, 0.95):.2f} ms; without systems p50 {_at(without_ms, 0.5):.2f} ms, p95 "
        f"{_at(without_ms, 0.95):.2f} ms"
    )


async def _first_text_ms(
    use_case: AnswerQuestion, tenant: FakeTenant, number: int, told: asyncio.Future[float]
) -> None:
    began_s = time.perf_counter()
    prepared = await use_case.prepare(
        AnswerRequest(question=_QUESTION),
        identity=agent("ana"),
        deadline=Deadline.after(30, clock=tenant.clock),
        context=of_customer(f"c{number}"),
    )
    async with aclosing(use_case.stream(prepared)) as events:
        async for event in events:
            if isinstance(event, Token) and not told.done():
                told.set_result((time.perf_counter() - began_s) * 1000)


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def main() -> int:
    measure_parser()
    asyncio.run(measure_ready())
    asyncio.run(measure_first_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
