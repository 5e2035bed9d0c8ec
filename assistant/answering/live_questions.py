"""Finds the live element that a question is about, where neither a document nor a model names it.

A connector gives each element example questions. An element matches a question whose vector is near to one
of them, and that asks for a fact, not for what to do: "How do I cancel an order?" is a procedure's question.
Each clause is compared: "Where is her order, and may I refill it?" asks a system and a document.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from assistant.answering.evidence import Evidence
from assistant.answering.hydration import LiveSlot, system_of
from assistant.answering.retrieve import CosineScale
from assistant.answering.services import TenantServices
from assistant.domain.clock import Deadline
from assistant.domain.elements import ElementProblem
from assistant.domain.errors import AssistantError
from assistant.live.ports import ElementType
from assistant.text.language import fold, language

NEAR = 0.56
"""Least cosine, on the packaged model's scale, with an example that shares a word with the question. Chosen
by hand on 32 questions to a pharmacy and a shop (docs/decisions/0057)."""
NEAR_WITHOUT_WORDS = 0.65
_ROUTED = 0.1
"""Cosine for the whole of the routing's share: it moves what is near the border, and no more."""
_NOWHERE: Mapping[str, float] = {}
_LIMIT_S = 3.0
_MOST_CLAUSES = 4
_MOST_OF_A_PART = 2
"""Elements for one part of a message."""
_ASKS = (
    "where|when|what|which|who|how|why|may|can|could|must|should|will|would|is|are|was|were|do|does|did|has|"
    "have"
)
_CLAUSE = re.compile(rf"[?;]|(?<=\s)(?:and|but|also)\s{{1,4}}(?=(?:{_ASKS})\b)", re.IGNORECASE)
_ASKS_WHAT_TO_DO = re.compile(
    r"\bhow (?:do|can|could|should|would|to)\b|\bwhat (?:do|should|can|must) (?:i|we|you|she|he|they)\b|"
    r"\bwhat (?:now|next|happens)\b|\b(?:steps?|procedure|policy|rules?)\b"
)
Vectors = Mapping[str, Sequence[float]]
_UNANSWERED = frozenset({ElementProblem.SYSTEM_UNAVAILABLE, ElementProblem.SYSTEM_LATE})
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AskedElement:
    """A live element that answers one part of a message by itself."""

    part: int
    """Index of the part among the answer's evidence."""
    slot: LiveSlot


@dataclass(frozen=True, slots=True)
class Example:
    type: ElementType
    stems: frozenset[str]
    vector: Sequence[float]


class LiveQuestions:
    """Matches questions with the elements of one tenant. One instance serves all requests of a process."""

    def __init__(self, services: TenantServices) -> None:
        self._live = services.live_elements
        self._embedder = services.embedder
        self._clock = services.clock
        self._sources = services.tenant.sources
        self._stems = language(services.tenant.language).content_stems
        self._scale = CosineScale.of(services.tenant.embedding)
        self._examples: tuple[Example, ...] | None = None
        self._loading: asyncio.Task[None] | None = None

    def begin(
        self, message: str, *, without_items: Callable[[str], str] = str
    ) -> asyncio.Task[Vectors] | None:
        """Begin to embed the clauses of a message with several, and once in a process the examples.

        ``without_items``: a text with "it" for each item that it names, as the examples speak of items.
        Return the task for ``matching``; None where the tenant has no live system. It never raises.
        """
        if self._live is None:
            return None
        if self._examples is None and self._loading is None:
            self._loading = asyncio.create_task(self._load(self._live.types()))
        return asyncio.create_task(self._embed_clauses(message, without_items))

    async def matching(
        self, clauses: asyncio.Task[Vectors] | None, evidence: Sequence[Evidence], vectors: Vectors
    ) -> list[tuple[int, str]]:
        """Return the elements that the parts of a message ask about: the part's index, the element's name.

        ``clauses``: of ``begin``. ``vectors``: of whole questions, by their text. Waits for the examples the
        first time.
        """
        if clauses is None:
            return []
        waited = [clauses] if self._loading is None else [clauses, self._loading]
        await asyncio.wait(waited, timeout=_LIMIT_S)
        known = {**vectors, **(clauses.result() if clauses.done() else {})}
        found: list[tuple[int, str]] = []
        for part, one in enumerate(evidence):
            texts = clauses_of(one.query.question) or [one.query.joined]
            asked = ((text, known.get(text)) for text in texts)
            leaning = self._leaning(one)
            names = [
                self.match(text, vector, leaning=leaning) for text, vector in asked if vector is not None
            ]
            named = [name for name in dict.fromkeys(names) if name is not None]
            found += [(part, name) for name in named[:_MOST_OF_A_PART]]
        return found

    def match(
        self, question: str, vector: Sequence[float], *, leaning: Mapping[str, float] = _NOWHERE
    ) -> str | None:
        """Return the element that a question is about; None without one that is near enough.

        ``leaning``: by system, what the routing adds to the cosine.
        """
        if not self._examples or _ASKS_WHAT_TO_DO.search(fold(question)):
            return None
        stems = self._stems(question)
        best, name = 0.0, None
        for example in self._examples:
            dot = sum(one * other for one, other in zip(vector, example.vector, strict=True))
            cosine = self._scale.value(dot) + leaning.get(system_of(example.type.name), 0.0)
            near = NEAR if stems & example.stems else NEAR_WITHOUT_WORDS
            if cosine >= near and cosine > best:
                best, name = cosine, example.type.name
        return name

    def _leaning(self, found: Evidence) -> Mapping[str, float]:
        """Return by system how much more, or less, than its even share the router gives its source."""
        if found.routing is None:
            return _NOWHERE
        even = 1.0 / len(found.routing.shares)
        return {
            source.reach: _ROUTED * (found.routing.shares.get(source.name, even) - even)
            for source in self._sources
            if source.reach is not None
        }

    async def _embed_clauses(self, message: str, without_items: Callable[[str], str]) -> Vectors:
        """Return vectors by the clause as it was written; of a single clause only where it names an item."""
        clauses = clauses_of(message)
        plain = {text: without_items(text) for text in clauses or [message]}
        if not self._has_examples() or not (clauses or plain[message] != message):
            return {}
        try:
            deadline = Deadline.after(_LIMIT_S, clock=self._clock)
            vectors = await self._embedder.embed([*plain.values()], deadline=deadline)
            return dict(zip(plain, vectors, strict=True))
        except AssistantError as error:
            _log.warning("clauses_not_embedded", code=error.code)
            return {}

    def _has_examples(self) -> bool:
        return self._live is not None and any(one.about for one in self._live.types().values())

    async def _load(self, types: Mapping[str, ElementType]) -> None:
        pairs = [(one, text) for one in types.values() for text in one.about]
        try:
            deadline = Deadline.after(_LIMIT_S, clock=self._clock)
            vectors = (
                await self._embedder.embed([text for _, text in pairs], deadline=deadline) if pairs else []
            )
            self._examples = tuple(
                Example(one, self._stems(text), vector)
                for (one, text), vector in zip(pairs, vectors, strict=True)
            )
        except AssistantError as error:  # the next question tries again
            _log.warning("live_examples_not_embedded", code=error.code)
        finally:
            self._loading = None


def clauses_of(question: str) -> list[str]:
    """Return the clauses of a question that has several; none for a simple one."""
    stripped = (clause.strip(" \t\n,") for clause in _CLAUSE.split(question))
    clauses = [clause for clause in stripped if clause]
    return clauses[:_MOST_CLAUSES] if len(clauses) > 1 else []


def why_not_answered(asked: Sequence[AskedElement]) -> str | None:
    """Return in words why the live systems gave no answer; None where none was asked."""
    errors = [(one.slot.type.source, one.slot.error) for one in asked if one.slot.error is not None]
    said = (
        f"{source} did not answer." if error.problem in _UNANSWERED else error.message
        for source, error in errors
    )
    return " ".join(dict.fromkeys(said)) or None


def what_is_missing(asked: Sequence[AskedElement]) -> str | None:
    """Return the question back for a parameter that neither context nor question has, or None."""
    errors = (one.slot.error for one in asked)
    missing = (
        error.message
        for error in errors
        if error is not None and error.problem is ElementProblem.PARAMETER_MISSING
    )
    return next(missing, None)
