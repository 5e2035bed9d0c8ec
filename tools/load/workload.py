"""What the benchmark asks, of which documents, by which plan, with which delays and at which size."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import orjson
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from assistant.answering.evidence import DOCUMENTS_READ
from assistant.domain.documents import Document, DocumentState, DocumentStatus, StoredDocument
from assistant.knowledge.parsing import parse_document
from assistant.knowledge.passages import PassageCutter, TokenCounts, build_card
from assistant.text.language import language

KNOWLEDGE = Path(__file__).parents[2] / "knowledge" / "pharmacy"
PASSAGE_WORDS = 150
READ_DOCUMENTS = DOCUMENTS_READ
"""Documents that every search ranks first, and that the product therefore reads."""
TITLE = "Prior authorization denied, refill too soon, package damaged in delivery"
AT = datetime(2026, 1, 1, tzinfo=UTC)
_TOKENS = 512
"""More than a piece has: each document is one passage."""
_PLAIN = re.compile(r"[^A-Za-z0-9 .,'-]+")
_SPACES = re.compile(r"\s+")
_SENTENCE = re.compile(r"[A-Z](?:(?! - | --- |\bext\.)[^:])+[a-z]{3}\.")


@cache
def passages() -> Sequence[str]:
    """Return the pharmacy's Markdown documents in pieces of 150 words, those with most sentences first."""
    pieces: list[str] = []
    for path in sorted(KNOWLEDGE.glob("*.md")):
        words = _SPACES.sub(" ", _PLAIN.sub(" ", path.read_text(encoding="utf-8"))).split()
        pieces += [
            " ".join(words[start : start + PASSAGE_WORDS])
            for start in range(0, len(words) - PASSAGE_WORDS, PASSAGE_WORDS)
        ]
    return tuple(sorted(pieces, key=lambda piece: -len(_sentences_of(piece))))


@cache
def document(number: int) -> StoredDocument:
    """Return a document of one passage, as an index has it."""
    return _indexed(made_document(number))


def made_document(number: int) -> Document:
    """Return a document of one passage. Its title is about what every question asks."""
    return Document(
        document_id=f"document-{number}",
        title=TITLE,
        content=passages()[number % len(passages())],
        media_type="text/plain",
        source="pharmacy",
        type="article",
    )


def live_status(number: int) -> DocumentStatus:
    made = made_document(number)
    content_hash = made.content_hash()
    return DocumentStatus(
        document_id=made.document_id,
        title=made.title,
        state=DocumentState.LIVE,
        content_hash=content_hash,
        live_content_hash=content_hash,
        received_at=AT,
        updated_at=AT,
    )


@cache
def sentences() -> Sequence[str]:
    """Return the whole sentences of the READ_DOCUMENTS documents, without markup, each once."""
    found = [one for number in range(READ_DOCUMENTS) for one in _sentences_of(passages()[number])]
    return tuple(dict.fromkeys(found))


@cache
def _sentences_of(piece: str) -> tuple[str, ...]:
    content = Document(document_id="piece", title=TITLE, content=piece, media_type="text/plain")
    units = (unit.text for unit in parse_document(content).units)
    return tuple(text for text in units if _SENTENCE.fullmatch(text) and 6 <= len(text.split()) <= 25)


def _indexed(made: Document) -> StoredDocument:
    parsed, content_hash = parse_document(made), made.content_hash()
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106 (a token of text)
    tokenizer.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    cutter = PassageCutter(TokenCounts(tokenizer), max_tokens=_TOKENS, language=language("en"))
    return StoredDocument(
        card=build_card(made, parsed, content_hash=content_hash, updated_at=AT),
        passages=tuple(cutter.cut(made, parsed, content_hash=content_hash, updated_at=AT)),
    )


# --- questions and their answers ------------------------------------------------------------------------


VARIANTS = 61
"""Different answers; a prime, so that neighbouring questions differ."""
ANSWER_TOKENS = 200
_TOKEN_CHARACTERS = 5
_SYLLABLES = tuple(f"{consonant}{vowel}" for consonant in "bdfgklmnprstvz" for vowel in "aeiou")
_TAG = re.compile(rb"reference q([a-z]{10})")
_TOPICS = (
    "a prior authorization that was denied",
    "a refill that the plan calls too soon",
    "a package that was damaged in delivery",
    "a prescription that was transferred to another pharmacy",
    "a controlled medicine that was lost",
)
_OPENINGS = (
    "The desk sends the money to the plan administrator, because tax rules treat a check as a withdrawal.",
    "Medicare members have 60 days from the event to file a grievance with their plan.",
    "Once the plan pays, the desk refunds all that was paid, less the copay.",
)
"""First sentences of answers. "For qbabebibobu," before them is the writer's own, which the check of support
lets pass in a sentence as long as these. No name is in them that the documents lack: it would be withheld."""


def question(number: int) -> str:
    """Return the ``number``-th question; no two numbers below 65**5 have the same."""
    return (
        f"What do we tell the caller with reference {tag_of(number)} about {_TOPICS[number % len(_TOPICS)]}?"
    )


def tag_of(number: int) -> str:
    """Return the word that only this question holds."""
    syllables: list[str] = []
    for _ in range(5):
        number, place = divmod(number, len(_SYLLABLES))
        syllables.append(_SYLLABLES[place])
    return f"q{''.join(syllables)}"


def tag_in(prompt: bytes) -> str:
    """Return the tag of the question that a request's body holds. Raises ValueError when it holds none."""
    found = _TAG.search(prompt)
    if found is None:
        raise ValueError("the prompt holds no question of this benchmark")
    return f"q{found[1].decode()}"


def variant_of(tag: str) -> int:
    return crc32(tag.encode()) % VARIANTS


def expected_text(number: int, *, tokens: int = ANSWER_TOKENS) -> str:
    """Return the whole answer to the ``number``-th question."""
    return "".join(answer_pieces(tag_of(number), tokens=tokens))


def answer_pieces(tag: str, *, tokens: int) -> tuple[str, ...]:
    """Return an answer as its ``tokens`` pieces, ``first_piece`` and ``later_pieces``."""
    return (first_piece(tag), *later_pieces(variant_of(tag), tokens - 1))


def first_piece(tag: str) -> str:
    """Return a whole sentence, which only this question's answer has, and the beginning of the next.

    The service holds text back until a sentence has ended: the wait for a model that is in the middle of one
    is no work of the service's own.
    """
    opening = _opening(variant_of(tag))
    return f"For {tag}, {opening[0].lower()}{opening[1:]} {later_text(variant_of(tag), 1)[0]}"


@lru_cache(maxsize=8 * VARIANTS)
def later_pieces(variant: int, count: int) -> tuple[str, ...]:
    """Return the pieces after the first: whole sentences but for the first character, cut evenly."""
    text = later_text(variant, count * _TOKEN_CHARACTERS)[1:]
    cuts = [len(text) * place // count for place in range(count + 1)]
    return tuple(text[start:end] for start, end in pairwise(cuts))


def later_text(variant: int, characters: int) -> str:
    """Return so many characters or more of whole sentences, none of them twice in an answer."""
    left = [sentence for sentence in sentences() if sentence != _opening(variant)]
    random.Random(variant).shuffle(left)
    text = left.pop()
    while len(text) < characters:
        text = f"{text} {left.pop()}"
    return text


def _opening(variant: int) -> str:
    return _OPENINGS[variant % len(_OPENINGS)]


# --- plans ----------------------------------------------------------------------------------------------


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
    more_urls: list[str] = field(default_factory=list[str])
    """Further processes of the same service; streams take turns."""
    resume_url: str = ""
    """Where cut streams go on; the same service when empty."""
    seed: int = 0
    timeout_s: float = 60.0
    """For one answer."""

    def url_of(self, stream: int) -> str:
        return (self.url, *self.more_urls)[stream % (1 + len(self.more_urls))]

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


RANKING_STEPS = ("rank", "weigh", "units", "gate", "compose")
"""Steps that find out which passage answers, and compose its section. A relay has none of them."""


@dataclass(slots=True)
class LoadOutcome:
    """What a run saw."""

    first_text_ms: list[float] = field(default_factory=list[float])
    """From the question to the first text, of the answers that count."""
    ranking_ms: list[float] = field(default_factory=list[float])
    """Of the same answers: how much of that was spent in RANKING_STEPS, as the ``done`` event says."""
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


# --- delays of the stand-ins ----------------------------------------------------------------------------


EMBEDDING_S = 0.015
SEARCH_S = 0.010
FIRST_TOKEN_S = 0.150
TOKEN_S = 0.020
STORE_S = 0.005
SEARCHES = 2
"""Calls of the index for a question: the search, and the documents to read."""
ADDED_TO_MS = (EMBEDDING_S + SEARCHES * SEARCH_S + FIRST_TOKEN_S) * 1000
"""What the stand-ins take until the first token; all above it is added."""


@dataclass(slots=True)
class Pace:
    delayed: bool = True
    tokens: int = ANSWER_TOKENS
    embedding_s: float = EMBEDDING_S
    search_s: float = SEARCH_S
    first_token_s: float = FIRST_TOKEN_S
    token_s: float = TOKEN_S
    store_s: float = STORE_S

    def later(self, delay_s: float, send: Callable[[bytes], object], data: bytes) -> None:
        """Send after the delay, at once when there are no delays."""
        if self.delayed:
            asyncio.get_running_loop().call_later(delay_s, send, data)
        else:
            send(data)


# --- how much is measured -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Effort:
    pairs: int
    """Of runs, bare and service; each figure is the median over them."""
    single_answers: int
    stream_answers: int
    """Of each of 50 streams, one after the other; the first is the ramp when there are several."""
    many_answers: int
    """The same of many streams."""
    stream_tokens: int
    many_streams: int
    rate_s: float
    rounds: int
    resumed_streams: int
    killed_streams: int
    judges_times: bool


FULL = Effort(
    pairs=5,
    single_answers=7,
    stream_answers=3,
    many_answers=2,
    stream_tokens=ANSWER_TOKENS,
    many_streams=200,
    rate_s=3.0,
    rounds=5,
    resumed_streams=500,
    killed_streams=200,
    judges_times=True,
)
QUICK = Effort(
    pairs=1,
    single_answers=2,
    stream_answers=1,
    many_answers=1,
    stream_tokens=30,
    many_streams=100,
    rate_s=1.0,
    rounds=2,
    resumed_streams=50,
    killed_streams=20,
    judges_times=False,
)
