"""The load generator, a process of its own: reads one plan, runs its streams, prints one outcome.

While answers stream, a read does as little as possible; events are decoded when the load is over.
"""

from __future__ import annotations

import asyncio
import random
import re
import resource
import time
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from tools.load.http_server import decode_chunks, read_plan, run_until_told, say
from tools.load.workload import RANKING_STEPS, LoadOutcome, LoadPlan, expected_text

_FIRST_TEXT = re.compile(rb'event: token\ndata: \{"text":"[^"]')
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_LAST_CHUNK = b"0\r\n\r\n"
_CODE = re.compile(rb'"code":"([a-z_]+)"')
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class SseEvent:
    name: str
    data: Any
    sequence: int
    """From its id, 0 when it has none."""
    answer_id: str


@dataclass(slots=True)
class Reply:
    """What came for one request, and when (seconds of ``time.perf_counter``)."""

    number: int
    """Of the question."""
    asked_s: float
    first_text_s: float | None = None
    ended_s: float | None = None
    """None when the connection broke, or was cut, before the end."""
    pieces: list[bytes] = field(default_factory=list[bytes])

    def status(self) -> int:
        """Return the HTTP status, 0 when none came."""
        found = _STATUS.match(b"".join(self.pieces[:2]))
        return int(found[1]) if found else 0

    def refusal(self) -> str:
        """Return the status, with the problem's code when it has one."""
        found = _CODE.search(b"".join(self.pieces))
        return f"status {self.status()}{f' {found[1].decode()}' if found else ''}"

    def events(self) -> list[SseEvent]:
        """Return the whole events that came, in order; an event that was cut is none."""
        raw = b"".join(self.pieces)
        head_end = raw.find(_HEAD_END)
        return parse_events(received_body(raw[head_end + 4 :])) if head_end > 0 else []


class AnswerClient(asyncio.Protocol):
    """A connection that asks one question after the other."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._ended: asyncio.Future[Reply] | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        self._transport = None
        self._finish(ended=False)

    @property
    def connected(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def has_event(self) -> bool:
        """Whether a first whole event came of the reply in progress."""
        return self._reply is not None and bool(self._reply.events())

    def ask(self, number: int, request: bytes) -> asyncio.Future[Reply]:
        """Send a request; the future is set at the response's end, or when the connection broke."""
        assert self._transport is not None
        self._reply = Reply(number, time.perf_counter())
        self._ended = asyncio.get_running_loop().create_future()
        self._tail = b""
        self._transport.write(request)
        return self._ended

    def cut(self) -> None:
        """Break the connection off, as a network does: the peer gets a reset."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._finish(ended=False)

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:
            return
        reply.pieces.append(data)
        if reply.first_text_s is None:
            now_s = time.perf_counter()
            if _FIRST_TEXT.search(b"".join(reply.pieces)):
                reply.first_text_s = now_s
        self._tail = data[-5:] if len(data) >= 5 else (self._tail + data)[-5:]
        if self._tail == _LAST_CHUNK or (reply.first_text_s is None and _is_whole(reply.pieces)):
            self._finish(ended=True)

    def _finish(self, *, ended: bool) -> None:
        reply, future = self._reply, self._ended
        self._reply = self._ended = None
        if reply is not None and ended:
            reply.ended_s = time.perf_counter()
        if reply is not None and future is not None and not future.done():
            future.set_result(reply)


def _is_whole(pieces: list[bytes]) -> bool:
    """Say whether a response with a length has come: a refusal is no stream."""
    raw = b"".join(pieces)
    head_end = raw.find(_HEAD_END)
    length = _LENGTH.search(raw, 0, head_end) if head_end > 0 else None
    return length is not None and len(raw) >= head_end + 4 + int(length[1])


def received_body(raw: bytes) -> bytes:
    """Return what came of a body in chunked coding, also when its end is missing."""
    whole = decode_chunks(raw, 0)
    if whole is not None:
        return whole[0]
    pieces: list[bytes] = []
    start = 0
    while (line_end := raw.find(b"\r\n", start)) >= 0:
        size = int(raw[start:line_end] or b"0", 16)
        pieces.append(raw[line_end + 2 : line_end + 2 + size])
        start = line_end + 2 + size + 2
        if start > len(raw):
            break
    return b"".join(pieces)


def parse_events(body: bytes) -> list[SseEvent]:
    """Return the whole events of a body: what follows the last empty line is not whole."""
    *blocks, _ = body.split(b"\n\n")
    return [event for block in blocks if (event := _event(block)) is not None]


def _event(block: bytes) -> SseEvent | None:
    """Return the event of a block, None when it is only a comment."""
    name, data, answer_id, sequence = "message", b"", "", 0
    for line in block.split(b"\n"):
        key, _, value = line.partition(b": ")
        if key == b"event":
            name = value.decode()
        elif key == b"data":
            data = value
        elif key == b"id":
            answer_id, _, after = value.decode().rpartition(":")
            sequence = int(after)
    return SseEvent(name, orjson.loads(data), sequence, answer_id) if data else None


def text_of(events: list[SseEvent]) -> str:
    return "".join(event.data["text"] for event in events if event.name == "token")


# --- connections and their limits -----------------------------------------------------------------------


async def connect(url: str) -> AnswerClient:
    """Open a connection to ``http://host:port``."""
    host, port = url.removeprefix("http://").split(":")
    _, client = await asyncio.get_running_loop().create_connection(AnswerClient, host, int(port))
    return client


async def limited(client: AnswerClient, ending: asyncio.Future[Reply], *, timeout_s: float) -> Reply:
    """Wait for the end of a reply; after the time-out the connection is cut, and the reply has no end."""
    timer = asyncio.get_running_loop().call_later(timeout_s, client.cut)
    try:
        return await ending
    finally:
        timer.cancel()


# --- streams that are cut and resumed -------------------------------------------------------------------


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
            # another task reports an interruption, which knows no more than what was kept
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


# --- the process ----------------------------------------------------------------------------------------


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
        client = await connect(plan.url_of(stream))
        replies: list[tuple[Reply, bool]] = []
        for turn in range(plan.answers):
            number = plan.first_question + turn * plan.streams + stream
            if not client.connected:
                client = await connect(plan.url_of(stream))
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
        client = await connect(plan.url_of(stream))
        while time.perf_counter() < until_s:
            if not client.connected:
                client = await connect(plan.url_of(stream))
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
            timings_ms: dict[str, float] = events[-1].data.get("timings_ms", {})
            outcome.ranking_ms.append(sum(timings_ms.get(step, 0.0) for step in RANKING_STEPS))


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
