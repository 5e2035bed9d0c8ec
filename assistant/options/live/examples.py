"""Finds the live elements that a question asks for.

A connector gives each element example questions, and questions about the same things that no element answers
(``not_about``). A question asks for the element of its nearest example, where a logistic model says so. The
model has three features: how near the example is, how much nearer than any question of ``not_about``, and how
much the question asks for live data. Decision 0057 has the measurements.

This way is taken where neither a document nor a model names an element.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import mul

from assistant.answer.call import Loaded
from assistant.answer.elements import system_of
from assistant.answer.read import Beside
from assistant.answer.scores import CosineScale, shipped_weights
from assistant.answer.services import TenantServices
from assistant.domain.answers import LiveMatch, LiveMatchState
from assistant.domain.clock import Deadline
from assistant.domain.live import ElementType
from assistant.options.live.connector import Connector, matches_whole
from assistant.options.live.section import systems_of
from assistant.text.language import fold, language

USUAL_NEARER, USUAL_LIVE = 0.07, -3.0
"""Means of two features over the questions that the model was fitted on (``commands_fit``). They stand in
where a connector has no ``not_about``, and where nothing judged how much a question asks for live data."""
_LIMIT_S = 2.0
"""Longest time to embed all examples, and longest wait of a question for it."""
_LEAST_OF_A_NAME = 5
"""Letters; a shorter word counts as no name."""
_WORD = re.compile(r"[^\W\d_]+")
_WITHOUT_PUNCTUATION = re.compile(r"[^\W_](?:.*[^\W_])?")
"""Finds "4471-2208" in "(4471-2208)?"."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question of a connector's file: ("orders", "Where is the order?", (0.1, …), "orders.status")."""

    system: str
    text: str
    vector: Sequence[float]
    """Unit length."""
    element: str | None
    """None: a question of ``not_about``."""


class LiveExamples(Beside):
    """Matches questions with the elements of one tenant. One instance serves all requests of a process.

    ``assistant.answer.read`` rewrites a question like the examples, embeds it while ``load`` waits for their
    vectors, and then matches it::

        text = examples.plain("Is order 4471-2208 of Lisinopril late?")  # "Is the order of Lisinopril late?"
        text = examples.without_names(text, known=glossary)  # "Is the order of it late?"
        await examples.load()
        examples.match(vector, live=1.5)  # of the text
        # [LiveMatch(element="orders.status", state=READ, …), LiveMatch(element="orders.items", state=FAR, …)]
    """

    def __init__(self, services: TenantServices) -> None:
        live = services.live.elements
        self._types: Mapping[str, ElementType] = live.types() if live is not None else {}
        self._embedder, self._clock = services.embedder, services.clock
        self._systems = systems_of(services.tenant)
        self._weights = shipped_weights("live")
        self._scale = CosineScale.of(services.tenant.embedding)
        self._language = language(services.tenant.language)
        connectors = [system.connector for system in self._systems]
        operations = [operation for connector in connectors for operation in connector.operations]
        self._ids = [
            (parameter.pattern, parameter.shown_as)
            for operation in operations
            for parameter in operation.parameters
            if parameter.pattern is not None
        ]
        """Pattern of an id, and what a question calls such a thing: "order"."""
        texts = [text for connector in connectors for text in (*_words_of(connector), *connector.not_about)]
        for element_type in self._types.values():
            texts += (element_type.title, *element_type.about)
        self._connector_words = frozenset(_WORD.findall(fold(" ".join(texts))))
        """Words of the connectors' files, which are no names."""
        self._reads_names = any(result.names for operation in operations for result in operation.results)
        """Whether a response names what it is about, so that a name in a question can be compared with it."""
        self.are_there = any(element_type.about for element_type in self._types.values())
        self._examples = Loaded(
            self._embedded, clock=self._clock, failure="live_examples_not_embedded", retry_after_s=0.0
        )
        """None until ``load`` has embedded them: then nothing matches."""

    def plain(self, text: str) -> str:
        """Return a text with words in place of ids, as the examples are written: "Is the order late?" for
        each of "Is 4471-2208 late?", "Is order 4471-2208 late?" and "Is the order 4471-2208 late?"."""
        words: list[str] = []
        for word in text.split():
            bare = _WITHOUT_PUNCTUATION.search(word)
            label = self._label_of(bare[0]) if bare else None
            if bare is None or label is None:
                words.append(word)
                continue
            if words and fold(words[-1]) == fold(label):  # "order 4471-2208"
                words.pop()
            if not words or fold(words[-1]) != "the":
                words.append("the")
            words.append(label + word[bare.end() :])
        return " ".join(words)

    def without_names(self, question: str, *, known: Collection[str]) -> str:
        """Return a question with "it" for each of its ``names``."""
        names = self.names(question, known=known)
        return _WORD.sub(lambda word: "it" if fold(word[0]) in names else word[0], question)

    def names(self, question: str, *, known: Collection[str]) -> tuple[str, ...]:
        """Return the words of a question that may be names of what connectors read, such as medicines:
        ("lisinopril",) of "Are refills of Lisinopril left?". They are neither common, nor in a connector's
        file, nor in ``known``, the words of the tenant's glossary.

        Live values must be of all of these names; else the answer says that they are of something else.
        """
        if not self._reads_names:
            return ()
        words = dict.fromkeys(_WORD.findall(fold(question)))
        return tuple(
            word
            for word in words
            if len(word) >= _LEAST_OF_A_NAME
            and word not in self._connector_words
            and word not in known
            and not self._language.is_common(word)
            and not self._language.is_common(word.removesuffix("s"))
        )

    async def load(self) -> bool:
        """Wait for the vectors of the examples, which are made once in a process; return whether they are
        there. Raises nothing: where they are late, the next question tries again."""
        return not self.are_there or await self._examples.get(within_s=_LIMIT_S) is not None

    def match(self, vector: Sequence[float], *, live: float | None) -> list[LiveMatch]:
        """Return how near each element is to a question, the nearest first. The first that is near enough is
        ``READ``, any other near enough is ``OTHER``.

        ``vector``: of the question as examples are written; ``live``: how much it asks for live data, as
        ``Heads.live_score`` judges; None where nothing judged it.
        """
        nearest, not_about = self._nearest(vector)
        live = USUAL_LIVE if live is None else live
        # Rounded, so that the last bits of a cosine decide no order: then the name does.
        by_nearness = sorted(nearest.items(), key=lambda item: (-round(item[1][0], 4), item[0]))
        matches: list[LiveMatch] = []
        is_read = False
        for name, (cosine, example) in by_nearness:
            against = not_about.get(system_of(name))
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
        """Return element = cosine and text of its nearest example, and system = cosine of its nearest
        question of ``not_about``: ``{"orders.status": (0.91, "Where is the order?")}, {"orders": 0.62}``."""
        nearest: dict[str, tuple[float, str]] = {}
        not_about: dict[str, float] = {}
        for example in self._examples.value or ():
            cosine = self._scale.value(sum(map(mul, vector, example.vector)))
            if example.element is None:
                not_about[example.system] = max(cosine, not_about.get(example.system, -1.0))
            elif cosine > nearest.get(example.element, (-1.0, ""))[0]:
                nearest[example.element] = cosine, example.text
        return nearest, not_about

    def _least_cosine(self, against: float | None, live: float) -> float:
        """Return the cosine with an example from which an element is likelier asked for than not: that at
        which the model's score is 0. ``against``: the cosine with the nearest question of ``not_about``.

            score = bias + w_cosine · cosine + w_nearer · nearer + w_live · live, nearer = cosine - against

        ``Weights.score`` counts a feature that it does not get as 0, so it returns the terms without cosine.
        """
        weight = self._weights.features
        if against is None:
            return -self._weights.score({"nearer": USUAL_NEARER, "live": live}) / weight["cosine"]
        without_cosine = self._weights.score({"nearer": -against, "live": live})
        return -without_cosine / (weight["cosine"] + weight["nearer"])

    def _label_of(self, word: str) -> str | None:
        """Return what a question calls the thing whose id a word is; None where it is no id."""
        return next((label for pattern, label in self._ids if matches_whole(pattern, word)), None)

    def _questions(self) -> Iterator[tuple[str, str, str | None]]:
        """Yield system, text and element of each example."""
        for element_type in self._types.values():
            for text in element_type.about:
                yield system_of(element_type.name), text, element_type.name
        for system in self._systems:
            yield from ((system.name, text, None) for text in system.connector.not_about)

    async def _embedded(self) -> tuple[Example, ...]:
        questions = list(self._questions())
        texts = [self.plain(text) for _, text, _ in questions]
        vectors = await self._embedder.embed(texts, deadline=Deadline.after(_LIMIT_S, clock=self._clock))
        return tuple(
            Example(system, text, vector, element)
            for (system, text, element), vector in zip(questions, vectors, strict=True)
        )


def _words_of(connector: Connector) -> Iterator[str]:
    """Yield what a connector calls its parameters and values."""
    for operation in connector.operations:
        for parameter in operation.parameters:
            yield f"{parameter.shown_as} {parameter.words}"
        for result in operation.results:
            yield result.label
            yield from result.values.values()
