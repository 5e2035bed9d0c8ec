"""What the benchmark tells its load generator, and what that one answers: JSON on stdin and stdout."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import orjson

from benchmarks.load.questions import ANSWER_TOKENS, question

RESUME_WINDOW_S = 15


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One run of the load generator."""

    run: Literal["streams", "rate", "resumed", "killed"]
    url: str
    bearers: list[str]
    """Tokens of agents, who take turns."""
    first_question: int
    """Number of the first question; those after it follow. No number is used twice in one benchmark."""
    streams: int
    """Answers at once."""
    answers: int = 1
    """Each stream's, one after the other (``streams``)."""
    ramp_s: float = 0.0
    """Streams begin evenly over this time."""
    duration_s: float = 0.0
    """How long new questions are asked (``rate``)."""
    tokens: int = ANSWER_TOKENS
    resume_url: str = ""
    """Where cut streams go on; the same service when empty."""
    seed: int = 0
    timeout_s: float = 60.0
    """For one answer."""

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self)) + b"\n"

    def request(self, number: int, *, stream: int) -> bytes:
        """Return the whole request of a question."""
        body = orjson.dumps({"question": question(number), "resume_window_s": RESUME_WINDOW_S})
        head = (
            "POST /v1/answers HTTP/1.1\r\nhost: assistant\r\naccept: text/event-stream\r\n"
            f"content-type: application/json\r\n{self.authorization(stream)}"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def resumption(self, answer_id: str, *, after: int, stream: int) -> bytes:
        """Return the request that goes on after event ``after``."""
        head = (
            f"GET /v1/answers/{answer_id}/events HTTP/1.1\r\nhost: assistant\r\naccept: text/event-stream\r\n"
            f"{self.authorization(stream)}last-event-id: {answer_id}:{after}\r\n\r\n"
        )
        return head.encode()

    def authorization(self, stream: int) -> str:
        bearer = self.bearers[stream % len(self.bearers)] if self.bearers else ""
        return f"authorization: Bearer {bearer}\r\n" if bearer else ""


@dataclass(slots=True)
class LoadOutcome:
    """What a run saw."""

    first_text_ms: list[float] = field(default_factory=list[float])
    """From the question to the first text, of the answers that count."""
    answers: int = 0
    """Whole and right ones."""
    tokens: int = 0
    interrupted: int = 0
    """Answers whose task was killed and that ended in ``interrupted``, with all that was kept."""
    resumed: int = 0
    """Times that a cut answer went on."""
    errors: dict[str, int] = field(default_factory=dict[str, int])
    """What went wrong, and how often."""
    answer_ids: list[str] = field(default_factory=list[str])
    wall_s: float = 0.0
    cpu_s: float = 0.0
    """Of the load generator while it loaded."""

    @property
    def cpu_share(self) -> float:
        return self.cpu_s / self.wall_s if self.wall_s else 0.0

    def fail(self, what: str) -> None:
        self.errors[what] = self.errors.get(what, 0) + 1

    def as_line(self) -> dict[str, Any]:
        return {"outcome": asdict(self)}
