"""The figures of live elements: ``python -m benchmarks.elements``.

The tag parser's time is shown beside a bare loop over the same parts; how late a ready element is beside a
task that only waits as the systems do, at the same time on the same loop. So a busy machine shows in both.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from assistant.answering.events import ElementChanged, Token
from assistant.answering.use_case import AnswerQuestion
from assistant.answering.prepare import AnswerRequest
from assistant.domain.clock import Deadline
from assistant.domain.elements import ElementState
from assistant.live.markup import MarkupParser, Tag
from assistant.live.ports import Caller, ElementType, Filled
from tests.fakes.answering import FakeTenant, agent, document
from tests.fakes.live import FakeLive, of_customer

STREAMS, ELEMENTS = 50, 5
_ROUNDS = 7
_TAGS = 10_000
_SYSTEM_S = 2.0
_TOKEN_CHARACTERS = 4
_QUESTION = "On which day are retail refills payable?"
_STEP = "Retail refills are payable on day 23 of 30"
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
    """Answers each read at an instant of its own, and notes when."""

    answered_s: dict[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float])
    bare_late_ms: list[float] = field(default_factory=list[float])
    least_s: float = 0.3

    async def fill(self, name: str, caller: Caller, *, deadline: Deadline) -> Filled:
        number = len(self.calls)
        self.calls.append((name, caller))
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self.least_s + (number * 37 % 250) / 1000
        await asyncio.sleep(due_s - loop.time())
        self.bare_late_ms.append((loop.time() - due_s) * 1000)
        self.answered_s[caller.answer_id or "", sum(c is caller for _, c in self.calls[:number])] = due_s
        return self._filled(name, caller)

    def types(self) -> Mapping[str, ElementType]:
        return super().types()


def tenant_with(live: FakeLive | None, *, elements: int) -> FakeTenant:
    tags = " ".join(f"{{{{{name}}}}}" for name in _NAMES[:elements])
    tenant = FakeTenant().with_documents(document(content=f"{_STEP} {tags}."))
    tenant.live_elements = live
    source = {"name": "knowledge", "namespace": "", "elements": True}
    limits = {"streams": 1000, "streams_per_agent": 1000}
    tenant.config = tenant.config.model_validate(
        tenant.config.model_dump() | {"sources": [source], "limits": limits}
    )
    return tenant


async def one_stream(
    use_case: AnswerQuestion, tenant: FakeTenant, number: int
) -> tuple[float, dict[str, float]]:
    """Return the seconds to the first text, and by element when it was ready, on the loop's clock."""
    loop = asyncio.get_running_loop()
    began_s, first_s = loop.time(), 0.0
    prepared = await use_case.prepare(
        AnswerRequest(question=_QUESTION),
        identity=agent("ana"),
        deadline=Deadline.after(30, clock=tenant.clock),
        context=of_customer(f"c{number}"),
    )
    ready: dict[str, float] = {}
    async with aclosing(use_case.stream(prepared)) as events:
        async for event in events:
            if isinstance(event, Token):
                first_s = first_s or loop.time() - began_s
            elif isinstance(event, ElementChanged) and event.state is ElementState.READY:
                ready[event.id] = loop.time()
    return first_s, ready


async def measure_ready() -> None:
    live = TimedLive()
    tenant = tenant_with(live, elements=ELEMENTS)
    use_case = AnswerQuestion(tenant.services)
    began_cpu_s = time.process_time()
    found = await asyncio.gather(*(one_stream(use_case, tenant, number) for number in range(STREAMS)))
    cpu_s = time.process_time() - began_cpu_s
    by_answer: dict[str, list[float]] = {}
    for (answer_id, _), due_s in live.answered_s.items():
        by_answer.setdefault(answer_id, []).append(due_s)
    shown = [sorted(ready.values()) for _, ready in found]
    due = [sorted(times) for times in by_answer.values()]
    late_ms = sorted(
        (at - was) * 1000
        for times, ready in zip(sorted(due), sorted(shown), strict=True)
        for was, at in zip(times, ready, strict=True)
    )
    timers_ms = sorted(live.bare_late_ms)
    print(
        f"element ready after its system answered, {STREAMS} streams × {ELEMENTS}: p50 {_at(late_ms, 0.5):.1f} "
        f"ms, p95 {_at(late_ms, 0.95):.1f} ms ({len(late_ms)} elements); bare timers p95 "
        f"{_at(timers_ms, 0.95):.1f} ms; {cpu_s:.2f} s of CPU"
    )


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
