"""The load generator, a process of its own: reads one plan, runs its streams, prints one outcome.

While answers stream, a read keeps the bytes and the time of the first text; answers are judged when the load
is over (docs/decisions/0066-one-load-generator.md).
"""

from __future__ import annotations

import asyncio
import random
import re
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp
import orjson

from tools.load.child import read_plan, run_child, say
from tools.load.workload import LoadOutcome, LoadPlan, expected_text, question

_RESUME_WINDOW_S = 15
_FIRST_TEXT = re.compile(rb'event: token\ndata: \{"text":"[^"]')
_CODE = re.compile(rb'"code":"([a-z_]+)"')
_FIRST_CUT_S = (0.1, 4.0)
"""Range of the first cut. An answer of 200 tokens takes 4.2 s."""
_NEXT_CUT_S = (0.0, 1.5)
_CUT_AGAIN = 0.3
"""Share of the streams that are cut again after they were resumed."""
_AWAY_S = (0.02, 0.6)
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class SseEvent:
    name: str
    data: Any
    event_id: str
    """``ANSWER:NUMBER``, empty where the sender gives none."""


def parse_events(body: bytes) -> list[SseEvent]:
    """Return the whole events of a body: what follows the last empty line is not whole."""
    *blocks, _ = body.split(b"\n\n")
    events: list[SseEvent] = []
    for block in blocks:
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if not line.startswith(b":"))
        if b"data" in fields:
            name, event_id = fields.get(b"event", b""), fields.get(b"id", b"")
            events.append(SseEvent(name.decode(), orjson.loads(fields[b"data"]), event_id.decode()))
    return events


@dataclass(slots=True)
class Answer:
    """One answer as its client has it, over all its connections."""

    number: int
    """Of the question."""
    counts: bool = True
    """Whether its wait for the first text counts."""
    asked_s: float = 0.0
    first_text_s: float | None = None
    bodies: list[bytearray] = field(default_factory=list[bytearray])
    """What each connection brought."""
    whole: bool = False
    """Whether the last connection came to its end."""
    wrong: str = ""

    def events(self) -> list[SseEvent]:
        """Return the whole events that came, in order."""
        return [event for body in self.bodies for event in parse_events(bytes(body))]

    async def read(self, response: aiohttp.ClientResponse) -> None:
        """Read one connection's response to its end."""
        body = bytearray()
        self.bodies.append(body)
        self.whole = False
        async for data in response.content.iter_any():
            body += data
            if self.first_text_s is None and _FIRST_TEXT.search(body):
                self.first_text_s = time.perf_counter()
        self.whole = True
        if response.status != 200:
            code = _CODE.search(body)
            self.wrong = f"status {response.status} {code[1].decode() if code else ''}".rstrip()

    def fault(self, *, tokens: int) -> str:
        """Return what is wrong with the answer; empty when it is right to the last character."""
        events = self.events()
        if self.wrong or not self.whole or not events:
            return self.wrong or ("no event" if self.whole else "broke off")
        if events[-1].name != "done":
            problem = events[-1].data.get("code") if events[-1].name == "error" else events[-1].name
            return f"ended with {problem}"
        ids = [event.event_id.rpartition(":") for event in events]
        expected = [(ids[0][0], ":", str(place)) for place in range(1, len(ids) + 1)]
        if ids != expected:
            return "events are missing, twice or out of order"
        text = "".join(event.data["text"] for event in events if event.name == "token")
        return "" if text == expected_text(self.number, tokens=tokens) else "another text"


@dataclass(frozen=True, slots=True)
class Generator:
    """Runs the streams of one plan."""

    plan: LoadPlan
    session: aiohttp.ClientSession

    async def run(self) -> list[Answer]:
        """Return every answer, in no order."""
        streams = await asyncio.gather(*map(self._stream, range(self.plan.streams)))
        return [answer for answers in streams for answer in answers]

    async def _stream(self, stream: int) -> Sequence[Answer]:
        plan = self.plan
        await asyncio.sleep(plan.ramp_s * stream / plan.streams)
        until_s = time.perf_counter() + plan.duration_s
        answers: list[Answer] = []
        while time.perf_counter() < until_s if plan.duration_s else len(answers) < plan.answers:
            number = plan.first_question + len(answers) * plan.streams + stream
            answer = Answer(number, counts=bool(answers) or plan.answers == 1)
            answers.append(answer)
            try:
                async with asyncio.timeout(plan.timeout_s):
                    await self._ask(answer, stream)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                answer.wrong = type(error).__name__
        return answers

    async def _ask(self, answer: Answer, stream: int) -> None:
        """Ask the question; where the plan cuts, leave at random points and resume after the last event."""
        chosen = random.Random(answer.number)
        cuts_s = [chosen.uniform(*_FIRST_CUT_S)] if self.plan.cut else []
        if cuts_s and chosen.random() < _CUT_AGAIN:
            cuts_s.append(chosen.uniform(*_NEXT_CUT_S))
        answer.asked_s = time.perf_counter()
        for cut_s in cuts_s:
            await self._until_cut(answer, stream, after_s=cut_s)
            if answer.whole:
                return
            await asyncio.sleep(chosen.uniform(*_AWAY_S))
        await self._connect(answer, stream)

    async def _connect(self, answer: Answer, stream: int) -> None:
        """Ask the question, or resume after the last event that came, and read to the end."""
        plan, events = self.plan, answer.events()
        url = plan.urls[stream % len(plan.urls)]
        headers = {
            "accept": "text/event-stream",
            "content-type": "application/json",
            "authorization": f"Bearer {plan.bearers[stream % len(plan.bearers)]}",
        }
        if events:
            last = events[-1].event_id
            url = f"{url}/v1/answers/{last.rpartition(':')[0]}/events"
            sending = self.session.get(url, headers=headers | {"last-event-id": last})
        else:
            asked = {"question": question(answer.number), "resume_window_s": _RESUME_WINDOW_S}
            sending = self.session.post(f"{url}/v1/answers", headers=headers, data=orjson.dumps(asked))
        async with sending as response:
            await answer.read(response)

    async def _until_cut(self, answer: Answer, stream: int, *, after_s: float) -> None:
        """Cut the connection after the time, but not before a whole event came; never after its end."""
        reading = asyncio.ensure_future(self._connect(answer, stream))
        try:
            await asyncio.wait([reading], timeout=after_s)
            while not reading.done() and not answer.events():
                await asyncio.wait([reading], timeout=_POLL_S)
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        if not reading.cancelled():
            reading.result()


def judged(answers: Sequence[Answer], *, plan: LoadPlan, wall_s: float, cpu_s: float) -> LoadOutcome:
    """Count the answers: right to the last character, or by what is wrong with them."""
    outcome = LoadOutcome(wall_s=wall_s, cpu_s=cpu_s)
    for answer in answers:
        outcome.resumed += max(0, len(answer.bodies) - 1)
        if fault := answer.fault(tokens=plan.tokens):
            outcome.errors[fault] = outcome.errors.get(fault, 0) + 1
            continue
        outcome.answers += 1
        if answer.counts and answer.first_text_s is not None:
            outcome.first_text_ms.append((answer.first_text_s - answer.asked_s) * 1000)
    return outcome


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main(plan: LoadPlan) -> None:
    cpu_s, began_s = _cpu_s(), time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        answers = await Generator(plan, session).run()
    wall_s, cpu_s = time.perf_counter() - began_s, _cpu_s() - cpu_s
    say(asdict(judged(answers, plan=plan, wall_s=wall_s, cpu_s=cpu_s)))


if __name__ == "__main__":
    run_child(main(LoadPlan(**read_plan())))
