"""What the load asks, of which documents, what the model answers, and what one run of it sees."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from zlib import crc32

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
        starts = range(0, len(words) - PASSAGE_WORDS, PASSAGE_WORDS)
        pieces += [" ".join(words[start : start + PASSAGE_WORDS]) for start in starts]
    return tuple(sorted(pieces, key=lambda piece: -len(_sentences_of(piece))))


@cache
def document(number: int) -> StoredDocument:
    """Return a document of one passage, as an index has it."""
    made = made_document(number)
    parsed, content_hash = parse_document(made), made.content_hash()
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106 (a token of text)
    tokenizer.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    cutter = PassageCutter(TokenCounts(tokenizer), max_tokens=_TOKENS, language=language("en"))
    return StoredDocument(
        card=build_card(made, parsed, content_hash=content_hash, updated_at=AT),
        passages=tuple(cutter.cut(made, parsed, content_hash=content_hash, updated_at=AT)),
    )


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
    """Return the state of a document that the index holds."""
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
    texts = [text for number in range(READ_DOCUMENTS) for text in _sentences_of(passages()[number])]
    return tuple(dict.fromkeys(texts))


@cache
def _sentences_of(piece: str) -> tuple[str, ...]:
    content = Document(document_id="piece", title=TITLE, content=piece, media_type="text/plain")
    units = (unit.text for unit in parse_document(content).units)
    return tuple(text for text in units if _SENTENCE.fullmatch(text) and 6 <= len(text.split()) <= 25)


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
    topic = _TOPICS[number % len(_TOPICS)]
    return f"What do we tell the caller with reference {tag_of(number)} about {topic}?"


def tag_of(number: int) -> str:
    """Return the word that only this question holds."""
    syllables: list[str] = []
    for _ in range(5):
        number, place = divmod(number, len(_SYLLABLES))
        syllables.append(_SYLLABLES[place])
    return f"q{''.join(syllables)}"


def tag_in(prompt: bytes) -> str:
    """Return the tag of the question that a request's body holds. Raises ValueError when it holds none."""
    tag = _TAG.search(prompt)
    if tag is None:
        raise ValueError("the prompt holds no question of this load")
    return f"q{tag[1].decode()}"


def variant_of(tag: str) -> int:
    return crc32(tag.encode()) % VARIANTS


def expected_text(number: int, *, tokens: int = ANSWER_TOKENS) -> str:
    """Return the whole answer to the ``number``-th question."""
    tag = tag_of(number)
    return "".join((first_piece(tag), *later_pieces(variant_of(tag), tokens - 1)))


def first_piece(tag: str) -> str:
    """Return a whole sentence, which only this question's answer has, and the beginning of the next.

    The service holds text back until a sentence has ended: the wait for a model that is in the middle of one
    is no work of the service's own.
    """
    opening = _opening(variant_of(tag))
    return f"For {tag}, {opening[0].lower()}{opening[1:]} {_later_text(variant_of(tag), 1)[0]}"


@lru_cache(maxsize=8 * VARIANTS)
def later_pieces(variant: int, count: int) -> tuple[str, ...]:
    """Return the pieces after the first: whole sentences but for the first character, cut evenly."""
    text = _later_text(variant, count * _TOKEN_CHARACTERS)[1:]
    cuts = [len(text) * place // count for place in range(count + 1)]
    return tuple(text[start:end] for start, end in pairwise(cuts))


def _later_text(variant: int, characters: int) -> str:
    """Return so many characters or more of whole sentences, none of them twice in an answer."""
    left = [sentence for sentence in sentences() if sentence != _opening(variant)]
    random.Random(variant).shuffle(left)
    text = left.pop()
    while len(text) < characters:
        text = f"{text} {left.pop()}"
    return text


def _opening(variant: int) -> str:
    return _OPENINGS[variant % len(_OPENINGS)]


# --- one run of the load generator ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One run: each stream asks one question after the other."""

    urls: list[str]
    """Processes of the same service; streams take turns."""
    bearers: list[str]
    """Tokens of agents, who take turns."""
    first_question: int
    """Number of the first question; those after it follow. No number is used twice in one benchmark."""
    streams: int
    answers: int = 1
    """Of each stream. When there are several, the wait for the first one's text does not count: not all
    streams run yet."""
    ramp_s: float = 0.0
    """Streams begin evenly over this time."""
    duration_s: float = 0.0
    """Above 0, each stream asks for so long instead; the answers under way are still read."""
    tokens: int = ANSWER_TOKENS
    cut: bool = False
    """Whether every answer is cut at a random point, some twice, and resumed."""
    timeout_s: float = 60.0
    """For one answer."""


@dataclass(slots=True)
class LoadOutcome:
    """What a run saw."""

    first_text_ms: list[float] = field(default_factory=list[float])
    """From the question to the first text, of the answers that count."""
    answers: int = 0
    """Whole and right ones."""
    resumed: int = 0
    """Times that a cut answer was resumed."""
    errors: dict[str, int] = field(default_factory=dict[str, int])
    """What went wrong, and how often."""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    """Of the load generator while it loaded."""
