"""Streams that are cut and go on: on the same service, or on another one when theirs was killed."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from benchmarks.load.answer_client import AnswerClient, Reply, SseEvent, text_of
from benchmarks.load.asking import connect, limited
from benchmarks.load.plans import LoadOutcome, LoadPlan
from benchmarks.load.process_main import say
from benchmarks.load.questions import expected_text

_EARLIEST_CUT_S = 0.1
_LATEST_CUT_S = 4.0
"""An answer of 200 tokens takes 4.2 s."""
_AGAIN = 0.3
"""Share of the streams that are cut again after they went on."""
_AWAY_S = (0.02, 0.6)
_MOST_CONNECTIONS = 6
_POLL_S = 0.01
_ENDS = frozenset({"done", "error"})


@dataclass(slots=True)
class Followed:
    """One answer as its client has it, over all its connections."""

    plan: LoadPlan
    stream: int
    url: str
    """Where it is asked."""
    events: list[SseEvent] = field(default_factory=list[SseEvent])
    wrong: str = ""
    connections: int = 0
    client: AnswerClient | None = None
    """Of the connection in progress."""

    @property
    def has_begun(self) -> bool:
        """Whether anything came, or never will."""
        waiting = not self.events and not self.wrong
        return not waiting or (self.client is not None and self.client.has_event)

    @property
    def number(self) -> int:
        return self.plan.first_question + self.stream

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1].name in _ENDS

    @property
    def last_sequence(self) -> int:
        return self.events[-1].sequence if self.events else 0

    async def connect(self) -> tuple[AnswerClient, asyncio.Future[Reply]]:
        """Ask the question, or go on after the last event that came."""
        self.connections += 1
        if not self.events:
            client = await connect(self.url)
            return client, client.ask(self.number, self.plan.request(self.number, stream=self.stream))
        client = await connect(self.plan.resume_url or self.plan.url)
        request = self.plan.resumption(self.events[0].answer_id, after=self.last_sequence, stream=self.stream)
        return client, client.ask(self.number, request)

    def take(self, reply: Reply) -> None:
        """Add what a connection brought. An event doubled, lost or out of turn is wrong."""
        where = "resumed: " if self.connections > 1 else ""
        if reply.status() not in (0, 200):
            self.wrong = f"{where}{reply.refusal()}"
            return
        for event in reply.events():
            # an interruption is told by another task, which knows no more than what was kept
            if event.sequence != self.last_sequence + 1 and event.name != "error":
                self.wrong = f"{where}event {event.sequence} after {self.last_sequence}"
                return
            self.events.append(event)

    async def read(self, cuts_s: list[float], *, away_s: float) -> None:
        """Read to the end of the answer; each connection but the last is cut after its time."""
        while not self.ended and not self.wrong and self.connections < _MOST_CONNECTIONS:
            if self.connections:
                await asyncio.sleep(away_s)
            try:
                client, ending = await self.connect()
                self.client = client
            except OSError as error:
                self.wrong = f"no connection: {type(error).__name__}"
                return
            if cuts_s:
                await _cut_once_begun(client, ending, after_s=cuts_s.pop(0))
            self.take(await limited(client, ending, timeout_s=self.plan.timeout_s))
            client.cut()
            if not self.events and not self.wrong:
                self.wrong = "nothing came"


async def run_resumed(plan: LoadPlan, outcome: LoadOutcome) -> None:
    """Cut every stream at a random point, some again; each client goes on after what it saw last."""

    async def one(stream: int) -> None:
        chosen = random.Random(plan.seed * 1_000_003 + stream)
        await asyncio.sleep(plan.ramp_s * stream / plan.streams)
        cuts_s = [chosen.uniform(_EARLIEST_CUT_S, _LATEST_CUT_S)]
        if chosen.random() < _AGAIN:
            cuts_s.append(chosen.uniform(0.0, 1.5))
        followed = Followed(plan, stream, plan.url)
        await followed.read(cuts_s, away_s=chosen.uniform(*_AWAY_S))
        _judge(followed, outcome, killed=False)

    await asyncio.gather(*map(one, range(plan.streams)))


async def run_killed(plan: LoadPlan, outcome: LoadOutcome) -> None:
    """Even streams ask the service that is about to be killed, odd ones the other. Says ``begun`` once all
    have: then the kill is due."""
    streams = [
        Followed(plan, stream, plan.resume_url if stream % 2 else plan.url) for stream in range(plan.streams)
    ]

    async def one(followed: Followed) -> None:
        chosen = random.Random(plan.seed * 1_000_003 + followed.stream)
        await asyncio.sleep(plan.ramp_s * followed.stream / plan.streams)
        await followed.read([], away_s=chosen.uniform(*_AWAY_S))
        _judge(followed, outcome, killed=followed.stream % 2 == 0)

    async def say_begun() -> None:
        while not all(followed.has_begun for followed in streams):  # noqa: ASYNC110 - over all of them
            await asyncio.sleep(_POLL_S)
        say({"begun": True})

    await asyncio.gather(say_begun(), *map(one, streams))


async def _cut_once_begun(client: AnswerClient, ending: asyncio.Future[Reply], *, after_s: float) -> None:
    """Cut the connection after the time, but not before a first whole event came; never after its end."""
    await asyncio.wait([ending], timeout=after_s)
    while not ending.done() and not client.has_event:
        await asyncio.wait([ending], timeout=_POLL_S)
    client.cut()


def _judge(followed: Followed, outcome: LoadOutcome, *, killed: bool) -> None:
    """Count an answer. Of a killed one all that was kept must be the beginning of the right text."""
    outcome.resumed += followed.connections - 1
    last = followed.events[-1] if followed.events else None
    text, right = text_of(followed.events), expected_text(followed.number, tokens=followed.plan.tokens)
    if followed.wrong:
        outcome.fail(followed.wrong)
    elif last is not None and last.name == "done" and text == right:
        outcome.answers += 1
        outcome.tokens += followed.plan.tokens
    elif killed and last is not None and last.name == "error" and last.data.get("code") == "interrupted":
        if right.startswith(text):
            outcome.interrupted += 1
        else:
            outcome.fail("interrupted with another text")
    elif last is not None and last.name == "error":
        outcome.fail(f"ended with {last.data.get('code')}")
    else:
        outcome.fail("another text" if last is not None and last.name == "done" else "no end")
