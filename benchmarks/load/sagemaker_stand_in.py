"""SageMaker's two endpoints: embeddings in the schema of TEI, and answers streamed token by token.

Each token is a chat chunk as vLLM sends it, inside server-sent events, inside AWS's event stream whose parts
are cut at seeded random bytes. Frames are made once: while the benchmark runs they are only sent.
"""

from __future__ import annotations

import asyncio
import random

import orjson

from assistant.local.gateway import CONTENT_TYPE, payload_part
from benchmarks.load.http_server import LAST_CHUNK, HttpConnection, Request, chunk, response
from benchmarks.load.pacing import Pace
from benchmarks.load.questions import ANSWER_TOKENS, first_piece, later_pieces, tag_in, variant_of

DIMENSIONS = 384
_MOST_PARTS = 3
_STREAM_HEAD = (
    f"HTTP/1.1 200 OK\r\ncontent-type: {CONTENT_TYPE}\r\nx-amzn-invoked-production-variant: AllTraffic\r\n"
    "transfer-encoding: chunked\r\n\r\n"
).encode()


def sse_chunk(text: str | None, *, finish_reason: str | None = None) -> bytes:
    """Return one server-sent event of a streamed chat completion."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    body = {
        "id": "chatcmpl-7f1d2c3b4a5968778695a4b3c2d1e0f1",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "load",
        "choices": [choice],
    }
    return b"data: " + orjson.dumps(body) + b"\n\n"


def tail(tokens: int) -> bytes:
    """Return what follows the last token: why it ended, what it used, the end mark."""
    usage = {"prompt_tokens": 600, "completion_tokens": tokens, "total_tokens": 600 + tokens}
    last = orjson.dumps({"object": "chat.completion.chunk", "choices": [], "usage": usage})
    return sse_chunk(None, finish_reason="stop") + b"data: " + last + b"\n\ndata: [DONE]\n\n"


def framed(events: bytes, *, cuts: random.Random) -> bytes:
    """Return server-sent events in payload parts, cut at random bytes: one to three."""
    count = cuts.randrange(_MOST_PARTS)
    positions = sorted(cuts.sample(range(1, len(events)), count))
    edges = zip([0, *positions], [*positions, len(events)], strict=True)
    return b"".join(payload_part(events[start:end]) for start, end in edges)


class AnswerFrames:
    """The framed tokens of every variant of an answer, by its length."""

    def __init__(self, *, seed: int) -> None:
        self._cuts = random.Random(seed)
        self._frames: dict[tuple[int, int], list[bytes]] = {}
        self._tails: dict[int, bytes] = {}

    def of(self, tag: str, *, tokens: int) -> list[bytes]:
        """Return an answer's ``tokens + 1`` pieces as they are sent one after the other."""
        key = variant_of(tag), tokens - 1
        if key not in self._frames:
            self._frames[key] = [
                chunk(framed(sse_chunk(text), cuts=self._cuts)) for text in later_pieces(*key)
            ]
        first = chunk(framed(sse_chunk(first_piece(tag)), cuts=self._cuts))
        if tokens not in self._tails:
            self._tails[tokens] = chunk(framed(tail(tokens), cuts=self._cuts)) + LAST_CHUNK
        return [first, *self._frames[key], self._tails[tokens]]


class SageMakerStandIn:
    """Answers both operations of the SageMaker Runtime."""

    def __init__(self, pace: Pace, *, seed: int = 0) -> None:
        self._pace = pace
        self._frames = AnswerFrames(seed=seed)
        self._vectors = [response(_vector_body(number)) for number in range(16)]
        self._asked = 0
        self.abandoned = 0
        """Streams whose reader left before the end."""

    def answer(self, request: Request, connection: HttpConnection) -> None:
        if request.path.endswith("/invocations-response-stream"):
            self._stream(request, connection)
            return
        self._asked += 1
        count = len(orjson.loads(request.body)["inputs"])
        body = self._vectors[self._asked % 16] if count == 1 else response(_vector_body(0, count=count))
        self._pace.later(self._pace.embedding_s, connection.send, body)

    def _stream(self, request: Request, connection: HttpConnection) -> None:
        asked = orjson.loads(request.body)
        tokens = max(2, min(self._pace.tokens, int(asked.get("max_tokens") or ANSWER_TOKENS), ANSWER_TOKENS))
        frames = self._frames.of(tag_in(request.body), tokens=tokens)
        connection.send(_STREAM_HEAD)
        _Stream(self, frames, connection, self._pace).begin()


class _Stream:
    """One answer on its way, token after token against an absolute schedule."""

    __slots__ = (
        "_connection",
        "_delayed",
        "_due_s",
        "_every_s",
        "_first_s",
        "_frames",
        "_loop",
        "_next",
        "_stand_in",
    )

    def __init__(
        self, stand_in: SageMakerStandIn, frames: list[bytes], connection: HttpConnection, pace: Pace
    ) -> None:
        self._stand_in = stand_in
        self._frames = frames
        self._connection = connection
        self._delayed = pace.delayed
        self._every_s = pace.token_s
        self._first_s = pace.first_token_s
        self._next = 0
        self._loop = asyncio.get_running_loop()
        self._due_s = 0.0

    def begin(self) -> None:
        self._due_s = self._loop.time()
        self._send_after(self._first_s)

    def _send(self) -> None:
        if self._connection.gone:
            self._stand_in.abandoned += 1
            return
        last = self._next + 2 == len(self._frames)  # the tail follows the last token at once
        frame = self._frames[self._next]
        self._connection.send(frame + self._frames[-1] if last else frame)
        if not last:
            self._next += 1
            self._send_after(self._every_s)

    def _send_after(self, delay_s: float) -> None:
        """Send the next token when it is due; without delays in the loop's next turn, still one by one."""
        if self._delayed:
            self._due_s += delay_s
            self._loop.call_at(self._due_s, self._send)
        else:
            self._loop.call_soon(self._send)


def unit_vector(number: int) -> list[float]:
    """Return a unit vector, shape (384,)."""
    chosen = random.Random(number)
    values = [chosen.gauss(0.0, 1.0) for _ in range(DIMENSIONS)]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


def _vector_body(number: int, *, count: int = 1) -> bytes:
    return orjson.dumps([unit_vector(number)] * count)
