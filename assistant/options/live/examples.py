"""Finds the live elements that a question asks for.

A connector gives each element example questions, and questions about the same things that no element answers
(``not_about``). Where neither a document nor a model names an element, a question asks for that of its
nearest example, where a logistic model says so: of how near that is, how much nearer than any question that
no element answers, and how much the question asks for live data. Ids in it become the words that the
connector has for them, and names "it", as the examples are written. Decision 0057 has the measurements.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import mul

from assistant.answer.elements import Beside, system_of
from assistant.answer.scores import CosineScale, shipped_weights
from assistant.answer.services import Loaded, TenantServices
from assistant.answer.sources import SearchScope
from assistant.domain.answers import LiveMatch, LiveMatchState
from assistant.domain.clock import Deadline
from assistant.domain.live import ElementType
from assistant.options.live.connector import Connector, matches_whole
from assistant.options.live.section import reach_of
from assistant.text.language import fold, language

USUAL_NEARER, USUAL_LIVE = 0.07, -3.0
"""Means of the features over the questions of the fit: for a connector without ``not_about``, and for a
vector that the head does not know."""
_LIMIT_S = 2.0
_LEAST_OF_A_NAME = 5
"""Letters of a name."""
_WORD = re.compile(r"[^\W\d_]+")
_INSIDE = re.compile(r"[^\W_](?:.*[^\W_])?")
"""What punctuation stands around: "4471-2208" of "(4471-2208)?"."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question that a connector has, such as ("orders", "Where is the order?", …, "orders.status")."""

    system: str
    text: str
    vector: Sequence[float]
    element: str | None
    """None: a question that no element answers."""


class LiveExamples(Beside):
    """Matches questions with the elements of one tenant. One instance serves all requests of a process."""

    def __init__(self, services: TenantServices) -> None:
        live = services.live.elements
        self._types: Mapping[str, ElementType] = live.types() if live is not None else {}
        self._embedder, self._clock = services.embedder, services.clock
        self._sources, self._reach = services.tenant.sources, reach_of(services.tenant)
        self._weights = shipped_weights("live")
        self._scale = CosineScale.of(services.tenant.embedding)
        self._language = language(services.tenant.language)
        connectors = [entry.inline for entry in self._reach if entry.inline is not None]
        operations = [operation for connector in connectors for operation in connector.operations]
        self._ids = [
            (parameter.pattern, parameter.shown_as)
            for operation in operations
            for parameter in operation.parameters
            if parameter.pattern is not None
        ]
        """Pattern of an id, and what a question calls it: "order"."""
        words = [text for connector in connectors for text in (*_words_of(connector), *connector.not_about)]
        for element_type in self._types.values():
            words += (element_type.title, *element_type.about)
        self._own_words = frozenset(_WORD.findall(fold(" ".join(words))))
        self._reads_names = any(result.names for operation in operations for result in operation.results)
        self.are_there = any(element_type.about for element_type in self._types.values())
        self._examples = Loaded(
            self._embedded, clock=self._clock, failure="live_examples_not_embedded", retry_after_s=0.0
        )

    def plain(self, text: str) -> str:
        """Return a text with words in place of ids, as the examples are written: "Is the order late?" for
        each of "Is 4471-2208 late?", "Is order 4471-2208 late?" and "Is the order 4471-2208 late?"."""
        words: list[str] = []
        for word in text.split():
            inside = _INSIDE.search(word)
            label = self._label_of(inside[0]) if inside else None
            if inside is None or label is None:
                words.append(word)
                continue
            if words and fold(words[-1]) == fold(label):
                words.pop()
            if not words or fold(words[-1]) != "the":
                words.append("the")
            words.append(label + word[inside.end() :])
        return " ".join(words)

    def without_names(self, question: str, *, known: Collection[str]) -> str:
        """Return a question with "it" for each of its ``names``."""
        names = self.names(question, known=known)
        return _WORD.sub(lambda word: "it" if fold(word[0]) in names else word[0], question)

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
            and word not in self._own_words
            and word not in known
            and not self._language.is_common(word)
            and not self._language.is_common(word.removesuffix("s"))
        )

    async def load(self, scope: SearchScope) -> None:
        """Wait for the vectors of the examples, which are made once in a process. Raises nothing."""
        if self.are_there and await self._examples.get(within_s=_LIMIT_S) is None:
            scope.degraded.append("examples of live elements")

    def match(self, vector: Sequence[float], *, live: float | None) -> list[LiveMatch]:
        """Return how near each element is to a question, the nearest first; at most one of them is ``READ``.

        ``vector``: of the question as examples are written; ``live``: the head's score that it asks for live
        data (``Heads.live_score``).
        """
        nearest, of_none = self._nearest(vector)
        live = USUAL_LIVE if live is None else live
        matches: list[LiveMatch] = []
        is_read = False
        for name, (cosine, example) in sorted(
            nearest.items(), key=lambda element: (-round(element[1][0], 4), element[0])
        ):
            against = of_none.get(system_of(name))
            least = self._least_cosine(against, live)
            if cosine >= least:
                state = LiveMatchState.OTHER if is_read else LiveMatchState.READ
                is_read = True
            else:
                is_nearer_none = against is not None and against >= cosine
                state = LiveMatchState.NOT_ABOUT if is_nearer_none else LiveMatchState.FAR
            matches.append(
                LiveMatch(
                    element=name,
                    state=state,
                    cosine=round(cosine, 3),
                    least=round(least, 3),
                    against=None if against is None else round(against, 3),
                    unknown_words=0,
                    example=example,
                )
            )
        return matches

    def _nearest(self, vector: Sequence[float]) -> tuple[dict[str, tuple[float, str]], dict[str, float]]:
        """Return cosine and text of each element's nearest example, by element; and the highest cosine of the
        questions that no element answers, by system."""
        nearest: dict[str, tuple[float, str]] = {}
        of_none: dict[str, float] = {}
        for example in self._examples.value or ():
            cosine = self._scale.value(sum(map(mul, vector, example.vector)))
            if example.element is None:
                of_none[example.system] = max(cosine, of_none.get(example.system, -1.0))
            elif cosine > nearest.get(example.element, (-1.0, ""))[0]:
                nearest[example.element] = cosine, example.text
        return nearest, of_none

    def _least_cosine(self, against: float | None, live: float) -> float:
        """Return the cosine with an example from which reading is likelier right than wrong. ``against``:
        the cosine with a question that no element answers.

        The weights score ``cosine``, ``nearer`` (cosine minus ``against``) and ``live``; 0 is even odds.
        """
        weight = self._weights.features
        if against is None:
            return -self._weights.score({"nearer": USUAL_NEARER, "live": live}) / weight["cosine"]
        fixed = self._weights.score({"nearer": -against, "live": live})
        return -fixed / (weight["cosine"] + weight["nearer"])

    def _label_of(self, word: str) -> str | None:
        return next((label for pattern, label in self._ids if matches_whole(pattern, word)), None)

    def _asked(self) -> Iterator[tuple[str, str, str | None]]:
        """Yield system, text and element of each example."""
        for element_type in self._types.values():
            yield from (
                (system_of(element_type.name), text, element_type.name) for text in element_type.about
            )
        for entry in self._reach:
            if entry.inline is not None:
                yield from ((entry.name, text, None) for text in entry.inline.not_about)

    async def _embedded(self) -> tuple[Example, ...]:
        asked = list(self._asked())
        deadline = Deadline.after(_LIMIT_S, clock=self._clock)
        vectors = await self._embedder.embed([self.plain(text) for _, text, _ in asked], deadline=deadline)
        return tuple(
            Example(system, text, vector, element)
            for (system, text, element), vector in zip(asked, vectors, strict=True)
        )


def _words_of(connector: Connector) -> Iterator[str]:
    """Yield what a connector calls its parameters and values."""
    for operation in connector.operations:
        for parameter in operation.parameters:
            yield f"{parameter.shown_as} {parameter.words}"
        for result in operation.results:
            yield result.label
            yield from result.values.values()
