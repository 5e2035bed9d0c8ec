"""Finds the live elements that a question asks for, where neither a document nor a model names them.

A connector gives each element example questions, and questions about the same things that no element answers
(``not_about``). A question asks for the element of its nearest example, where that is near enough and nearer
than any question that no element answers. Ids in it become the words that the connector has for them, and
names of items "it", as the examples are written. Decision 0057 has the measurements.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import mul

import structlog

from assistant.answering.hydration import LiveSlot, system_of
from assistant.answering.rank import CosineScale
from assistant.answering.routing import Routing
from assistant.answering.search import SearchScope
from assistant.answering.services import TenantServices
from assistant.domain.answers import LiveMatch, LiveMatchState
from assistant.domain.clock import Deadline
from assistant.domain.elements import ElementProblem
from assistant.domain.errors import AssistantError
from assistant.live.ports import ElementType
from assistant.settings.connector import Connector, matches_whole
from assistant.text.language import fold, language

NEAR = 0.5
"""Least cosine with an example, on the packaged model's scale. This and the three below were chosen on
evaluation/live/tuning.jsonl (docs/decisions/0057)."""
_A_WORD, _MOST_OF_WORDS = 0.03, 0.2
"""Added to the least cosine by each content word that the connector does not use, and by all of them: a
question with many such words is about something else."""
_NEARER = 0.03
"""By how much the example is nearer than a question that no element answers."""
_ROUTED = 0.1
"""Cosine for the whole of the routing's share: it moves what is near the border, and no more."""
_LIMIT_S = 2.0
_LEAST_OF_A_NAME = 5
"""Letters of a name."""
_WORD = re.compile(r"[^\W\d_]+")
_PIECE = re.compile(r"\S+")
_BARE = re.compile(r"[^\W_](?:.*[^\W_])?")
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
    system: str
    text: str
    vector: Sequence[float]
    element: str | None
    """None: a question that no element answers."""


class LiveExamples:
    """Matches questions with the elements of one tenant. One instance serves all requests of a process."""

    def __init__(self, services: TenantServices) -> None:
        live = services.live_elements
        self._types: Mapping[str, ElementType] = live.types() if live is not None else {}
        self._embedder, self._clock = services.embedder, services.clock
        self._sources, self._reach = services.tenant.sources, services.tenant.reach
        self._scale = CosineScale.of(services.tenant.embedding)
        self._language = language(services.tenant.language)
        connectors = {one.name: one.inline for one in self._reach if one.inline is not None}
        operations = [one for connector in connectors.values() for one in connector.operations]
        parameters = [one for operation in operations for one in operation.parameters]
        self._ids = [(one.pattern, one.shown_as) for one in parameters if one.pattern is not None]
        texts: dict[str, list[str]] = {}
        for name, one in self._types.items():
            texts.setdefault(system_of(name), []).extend((one.title, *one.about))
        for name, connector in connectors.items():
            texts.setdefault(name, []).extend(_words_of(connector))
        self._stems = {system: self._language.content_stems(" ".join(said)) for system, said in texts.items()}
        against = " ".join(text for one in connectors.values() for text in one.not_about)
        self._words = frozenset(_WORD.findall(fold(" ".join((*map(" ".join, texts.values()), against)))))
        self._reads_names = any(result.names for operation in operations for result in operation.results)
        self._examples: tuple[Example, ...] | None = None
        self._loading: asyncio.Task[None] | None = None

    @property
    def are_there(self) -> bool:
        return any(one.about for one in self._types.values())

    def plain(self, text: str) -> str:
        """Return a text with "the order" for "order 4471-2208", as the examples are written."""
        said: list[str] = []
        for piece in _PIECE.findall(text):
            bare = _BARE.search(piece)
            label = self._label_of(bare[0]) if bare else None
            if bare is None or label is None:
                said.append(piece)
                continue
            if said and fold(said[-1]) == fold(label):
                said.pop()
            after = piece[bare.end() :]
            said.append(f"{label}{after}" if said and fold(said[-1]) == "the" else f"the {label}{after}")
        return " ".join(said)

    def names(self, question: str, *, known: Collection[str]) -> tuple[str, ...]:
        """Return the words of a question that may be names of what connectors read, such as medicines: words
        that are neither common nor the connectors' own. ``known``: words of the tenant's glossary.

        What is read must have each of them; else the answer says that it is of something else.
        """
        if not self._reads_names:
            return ()
        words = dict.fromkeys(_WORD.findall(fold(question)))
        return tuple(
            word
            for word in words
            if len(word) >= _LEAST_OF_A_NAME
            and word not in self._words
            and word not in known
            and not self._language.is_common(word)
            and not self._language.is_common(word.removesuffix("s"))
        )

    async def load(self, scope: SearchScope) -> None:
        """Wait for the vectors of the examples, which are made once in a process. Raises nothing."""
        if self._examples is not None or not self.are_there:
            return
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
        await asyncio.wait([self._loading], timeout=_LIMIT_S)
        if self._examples is None:
            scope.degraded.append("examples of live elements")

    def match(self, text: str, vector: Sequence[float], routing: Routing | None) -> list[LiveMatch]:
        """Return how near each element is to a question, the nearest first; at most one of them is ``READ``.

        ``vector``: of ``text``, which is ``plain``.
        """
        nearest: dict[str, tuple[float, str]] = {}
        against: dict[str, float] = {}
        for example in self._examples or ():
            cosine = self._scale.value(sum(map(mul, vector, example.vector)))
            if example.element is None:
                against[example.system] = max(cosine, against.get(example.system, -1.0))
            elif cosine > nearest.get(example.element, (-1.0, ""))[0]:
                nearest[example.element] = cosine, example.text
        leaning = self._leaning(routing)
        stems = self._language.content_stems(text)
        matches: list[LiveMatch] = []
        for name, (cosine, example) in sorted(
            nearest.items(), key=lambda one: (-round(one[1][0], 4), one[0])
        ):
            system = system_of(name)
            unknown = len(stems - self._stems.get(system, frozenset()))
            least = NEAR + min(_A_WORD * unknown, _MOST_OF_WORDS) - leaning.get(system, 0.0)
            state = LiveMatchState.READ
            if cosine < least:
                state = LiveMatchState.FAR
            elif cosine <= against.get(system, -1.0) + _NEARER:
                state = LiveMatchState.NOT_ABOUT
            elif any(one.state is LiveMatchState.READ for one in matches):
                state = LiveMatchState.OTHER
            matches.append(
                LiveMatch(
                    element=name,
                    state=state,
                    cosine=round(cosine, 3),
                    least=round(least, 3),
                    against=round(against[system], 3) if system in against else None,
                    unknown_words=unknown,
                    example=example,
                )
            )
        return matches

    def _leaning(self, routing: Routing | None) -> Mapping[str, float]:
        """Return by system how much more, or less, than its even share the router gives its source."""
        if routing is None:
            return {}
        even = 1.0 / len(routing.shares)
        return {
            source.reach: _ROUTED * (routing.shares.get(source.name, even) - even)
            for source in self._sources
            if source.reach is not None
        }

    def _label_of(self, word: str) -> str | None:
        return next((label for pattern, label in self._ids if matches_whole(pattern, word)), None)

    def _asked(self) -> Iterator[tuple[str, str, str | None]]:
        """Yield system, text and element of each example."""
        for one in self._types.values():
            yield from ((system_of(one.name), text, one.name) for text in one.about)
        for entry in self._reach:
            if entry.inline is not None:
                yield from ((entry.name, text, None) for text in entry.inline.not_about)

    async def _load(self) -> None:
        asked = list(self._asked())
        try:
            deadline = Deadline.after(_LIMIT_S, clock=self._clock)
            texts = [self.plain(text) for _, text, _ in asked]
            vectors = await self._embedder.embed(texts, deadline=deadline)
            self._examples = tuple(
                Example(system, text, vector, element)
                for (system, text, element), vector in zip(asked, vectors, strict=True)
            )
        except AssistantError as error:  # the next question tries again
            _log.warning("live_examples_not_embedded", code=error.code)
        finally:
            self._loading = None


def _words_of(connector: Connector) -> Iterator[str]:
    """Yield what a connector calls its parameters and values."""
    for operation in connector.operations:
        for parameter in operation.parameters:
            yield f"{parameter.shown_as} {parameter.words}"
        for result in operation.results:
            yield result.label
            yield from result.values.values()


def unread(match: LiveMatch, state: LiveMatchState) -> LiveMatch:
    """Return the match of an element that was asked for and is not read, for this reason."""
    return match.model_copy(update={"state": state}) if match.state is LiveMatchState.READ else match


# How its systems answered


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
