"""Finds the live elements that a question is about, where neither a document nor a model names them.

A connector gives each element example questions, and questions about the same things that no element answers
(``not_about``). Each clause of a question is read as the examples are written: ids, items and names of
medicines become "the order" or "it", and misspelt words get the connector's spelling. A clause asks for the
element of its nearest example, where that is near enough, is nearer than any question that no element
answers, and the clause does not ask what to do. Decision 0057 has the measurements.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import mul
from typing import NamedTuple

import structlog
from rapidfuzz.distance import OSA
from rapidfuzz.process import extract

from assistant.answering.evidence import Evidence
from assistant.answering.hydration import LiveSlot, system_of
from assistant.answering.retrieve import CosineScale
from assistant.answering.services import TenantServices
from assistant.answering.understand import ends_like_a_medicine
from assistant.domain.answers import LiveMatch, LiveMatchState
from assistant.domain.clock import Deadline
from assistant.domain.documents import KnownWords
from assistant.domain.elements import ElementProblem
from assistant.domain.errors import AssistantError
from assistant.live.ports import AskedName, ElementType
from assistant.settings.connector import Connector, matches_whole
from assistant.settings.tenant import TenantConfig
from assistant.text.language import fold, language, split_sentences

NEAR = 0.5
"""Least cosine with an example, on the packaged model's scale. This and the four below were chosen on
evaluation/live/tuning.jsonl (docs/decisions/0057)."""
_A_WORD, _MOST_OF_WORDS = 0.03, 0.2
"""Added to the least cosine by each content word that the connector does not use, and by all of them: a
clause with many such words is about something else."""
_FOLLOWS = 0.06
"""Taken from the least cosine of a follow-up: its subject is in the question before."""
_NEARER = 0.03
"""By how much the example is nearer than a question that no element answers."""
_SHORT_WORDS = 4
"""A follow-up of so many words or fewer is also read after the question before: "and 8362-5386?"."""
_ROUTED = 0.1
"""Cosine for the whole of the routing's share: it moves what is near the border, and no more."""
_NOWHERE: Mapping[str, float] = {}
_NO_WORDS: Mapping[str, int] = {}
_LIMIT_S = 3.0
_MOST_CLAUSES = 4
_MOST_OF_A_PART = 3
"""Elements for one part of a message."""
_LEAST_LETTERS, _TWO_EDITS_FROM, _LEAST_OF_A_NAME = 4, 9, 5
_ASKS = (
    "where|when|what|which|who|how|why|may|can|could|must|should|will|would|is|are|was|were|do|does|did|has|"
    "have"
)
_CLAUSE = re.compile(rf"[?;]|(?<=\s)(?:and|but|also)\s{{1,4}}(?=(?:{_ASKS})\b)", re.IGNORECASE)
_TWO_OF_ONE = re.compile(
    r"(?:(?:what(?:'s| is| are)|show me|give me) )?(?:the |current )?"
    r"(?P<first>[^\W\d_]{1,30})(?: and | & |, )(?P<second>[^\W\d_]{1,30})"
    r"(?P<rest> (?:of|for|on|at|in) .{1,400})",
    re.IGNORECASE,
)
"""Two things that are asked of one: "price and stock of it"."""
_OF_ANOTHER = re.compile(
    r"(?:,|\s)\s{0,3}(?:and|plus|as well as)\s{1,3}"
    r"(?P<second>(?:(?:the|its|her|his|their|also|current|today's)\s){0,2}"
    r"(?:[^\W\d_]{1,20}\s)?(?P<thing>[^\W\d_]{3,20})\s(?:of|for|on)\s)",
    re.IGNORECASE,
)
"""A second thing, of something else: "the status of the order and the stock of it"."""
_ALSO_SHOWN = frozenset(("price", "stock", "total", "status", "cost"))
_LEAST_OF_A_HALF = 3
_ASKS_WHAT_TO_DO = re.compile(
    r"\bhow (?:do|can|could|should|would|to)\b|\bwhat (?:do|should|can|must) (?:i|we|you|she|he|they)\b|"
    r"\bwhat (?:now|next|happens|if|to do)\b|\b(?:steps?|procedure|policy|rules?)\b|"
    r"\bwho (?:do|does|can|should|to)\b|\bwhat (?:do|does|is)\b.{1,60}\bmean"
)
_MEDICINE_GROUP = re.compile(
    r"(?:pril|sartan|statin|prazole|conazole|nidazole|mycin|cillin|oxacin|triptan|gliptin|gliflozin|glutide|"
    r"setron|profen|pentin|gabalin|azepam|zolam|cycline|thiazide|semide|lukast|dronate|parin|farin|mab|tinib|"
    r"navir|ciclovir|cyclovir|barbital|olol|dipine|phenidate|formin|thyroxine|oxetine|fetamine|phetamine|"
    r"codone|morphone|zosin|tidine|glitazone|nisone|nisolone|metasone|xaban|dogrel|fibrate|triptyline|apine|"
    r"buterol|meterol|insulin|traline|opram|trigine|madol|zodone|pidem|minophen|glargine)$"
)
"""Endings of groups of medicines' names, most of them of the WHO's list of stems. The wider endings of
``ends_like_a_medicine`` take "Susan" and "Kevin" for medicines, which only makes a clause plainer."""
_WORD = re.compile(r"[^\W\d_]+")
_PIECE = re.compile(r"\S+")
_BARE = re.compile(r"[^\W_](?:.*[^\W_])?")
_OPENING = re.compile(r"^(?:and|but|so|ok(?:ay)?|also|then)\b[\s,]*", re.IGNORECASE)
Vectors = Mapping[str, Sequence[float]]
_UNANSWERED = frozenset({ElementProblem.SYSTEM_UNAVAILABLE, ElementProblem.SYSTEM_LATE})
_log = structlog.get_logger(__name__)


# A clause as the examples are written


@dataclass(frozen=True, slots=True)
class Clause:
    said: str
    plain: str
    """As examples are written: "where is the order" for "where is ordr 4471-2208"."""
    joined: str | None = None
    """A short follow-up after the question before it; None where it stands alone."""
    follows: bool = False
    names: bool = False
    """Whether it names a medicine, which is "it" in ``plain``."""
    is_half: bool = False
    """Whether it is "the stock of the Breeze", which has no verb of its own, or what stood before that."""

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.plain,) if self.joined is None else (self.plain, self.joined)


class ClauseReader:
    """Reads clauses as the examples of a tenant's connectors are written."""

    def __init__(self, tenant: TenantConfig, types: Mapping[str, ElementType]) -> None:
        self._language = language(tenant.language)
        connectors = {one.name: one.inline for one in tenant.reach if one.inline is not None}
        self._ids = [
            (parameter.pattern, parameter.shown_as)
            for connector in connectors.values()
            for operation in connector.operations
            for parameter in operation.parameters
            if parameter.pattern is not None
        ]
        texts: dict[str, list[str]] = {}
        for name, one in types.items():
            texts.setdefault(system_of(name), []).extend((one.title, *one.about))
        for name, connector in connectors.items():
            texts.setdefault(name, []).extend(_words_of(connector))
        self._stems = {system: self._language.content_stems(" ".join(said)) for system, said in texts.items()}
        against = chain.from_iterable(one.not_about for one in connectors.values())
        said = " ".join(chain(*texts.values(), against))
        self._words = frozenset(_WORD.findall(fold(said)))
        markers = (
            " ".join(result.names)
            for connector in connectors.values()
            for operation in connector.operations
            for result in operation.results
        )
        titles = (one.title for connector in connectors.values() for one in connector.elements)
        labels = (
            result.label
            for connector in connectors.values()
            for operation in connector.operations
            for result in operation.results
            if result.shown
        )
        shown = chain(titles, labels)
        self._things = frozenset(_WORD.findall(fold(" ".join(shown)))) | _ALSO_SHOWN
        self._markers = self._language.content_stems(" ".join(markers))

    def names(self, question: str, *, meanings: Mapping[str, str]) -> tuple[AskedName, ...]:
        """Return the names that a question says of what connectors read, such as medicines: only those that
        surely are names, because what is read must have them.

        These are words with the ending of a group of medicines ("-pril"), and the glossary's entries of one
        word whose meaning says that they are one: with a word of the connector's ``names`` and another one,
        or with such an ending. ``meanings``: of the glossary, for this question.
        """
        if not self._markers:
            return ()
        found: dict[str, AskedName] = {}
        for said, meaning in meanings.items():
            meant = frozenset(word for word in _WORD.findall(fold(meaning)) if self._is_sure_name(word))
            stems = self._language.content_stems(meaning)
            is_marked = len(stems) > 1 and not self._markers.isdisjoint(stems)
            if meant or (is_marked and self._is_unusual(said)):
                found[said] = AskedName(said, meant)
        for word in _WORD.findall(fold(question)):
            if self._is_sure_name(word):
                found.setdefault(word, AskedName(word))
        return tuple(found.values())

    def _is_sure_name(self, word: str) -> bool:
        return self._is_unusual(word) and _MEDICINE_GROUP.search(word) is not None

    def _is_unusual(self, word: str) -> bool:
        is_known = word in self._words or self._language.is_common(word)
        return len(word) >= _LEAST_LETTERS and not is_known

    def clauses(
        self,
        question: str,
        *,
        before: str | None = None,
        known: KnownWords | None = None,
        without_items: Callable[[str], str] = str,
    ) -> list[Clause]:
        """Return the clauses of a question, at least one. ``before``: the question that it follows."""

        def read_as(text: str) -> str:
            return self.plain(without_items(text), known=known)

        last = None if before is None else read_as((clauses_of(before) or [before])[-1])
        read: list[Clause] = []
        whole = clauses_of(question) or [question]
        said_all = list(chain.from_iterable(map(self._halves, whole)))[:_MOST_CLAUSES]
        halves = frozenset(said_all) - frozenset(whole)
        for said in said_all:
            text = read_as(_OPENING.sub("", said) or said)
            is_short = last is not None and len(text.split()) <= _SHORT_WORDS
            joined = f"{last} {text}" if is_short else None
            names = any(map(self._is_name, _WORD.findall(fold(said))))
            clause = Clause(said, text, joined, follows=before is not None, names=names)
            read.append(replace(clause, is_half=said in halves))
        return read

    def _halves(self, clause: str) -> list[str]:
        """Return "what is the status of the order" and "the stock of it", where the second is a thing that a
        connector shows; else the clause alone."""
        for found in _OF_ANOTHER.finditer(clause):
            first, second = clause[: found.start()].strip(" \t\n,"), clause[found.start("second") :]
            if fold(found["thing"]) in self._things and len(first.split()) >= _LEAST_OF_A_HALF:
                return [first, *self._halves(second)]
        return [clause]

    def unknown(self, text: str, system: str) -> int:
        """Return how many content words of a text the system's connector does not use."""
        return len(self._language.content_stems(text) - self._stems.get(system, frozenset()))

    def plain(self, text: str, *, known: KnownWords | None = None) -> str:
        """Return a text with the connectors' words in place of ids, misspelt words and names."""
        folded = fold(self._without_ids(text))
        documents: Mapping[str, int] = known.words if known is not None else _NO_WORDS
        return _WORD.sub(lambda word: self._written(word[0], documents), folded)

    def _without_ids(self, text: str) -> str:
        """Return a text with "the order" for "order 4471-2208"."""
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

    def _label_of(self, word: str) -> str | None:
        return next((label for pattern, label in self._ids if matches_whole(pattern, word)), None)

    def _written(self, word: str, documents: Mapping[str, int]) -> str:
        """Return a folded word in the connectors' spelling; "it" for the name of a medicine."""
        if len(word) < _LEAST_LETTERS or word in self._words or self._language.is_common(word):
            return word
        if word not in documents and (near := self._nearest(word)) is not None:
            return near
        return "it" if self._is_name(word) else word

    def _is_name(self, word: str) -> bool:
        return self._is_unusual(word) and len(word) >= _LEAST_OF_A_NAME and ends_like_a_medicine(word)

    def _nearest(self, word: str) -> str | None:
        edits = 2 if len(word) >= _TWO_EDITS_FROM else 1
        near = extract(word, self._words, scorer=OSA.distance, score_cutoff=edits, limit=4)
        alike = [
            (distance, other)
            for other, distance, _ in near
            if other[0] == word[0] and len(other) >= _LEAST_LETTERS
        ]
        return min(alike)[1] if alike else None


def _words_of(connector: Connector) -> Iterator[str]:
    """Yield what a connector calls its parameters and values."""
    for operation in connector.operations:
        for parameter in operation.parameters:
            yield f"{parameter.shown_as} {parameter.words}"
        for result in operation.results:
            yield result.label
            yield from result.values.values()


def clauses_of(question: str) -> list[str]:
    """Return the clauses of a question that has several; none for a simple one."""
    sentences = (span.text for span in split_sentences(question))
    parts = chain.from_iterable(_CLAUSE.split(sentence) for sentence in sentences)
    stripped = (part.strip(" \t\n,.!") for part in parts)
    clauses = list(chain.from_iterable(_each_of_two(clause) for clause in stripped if clause))
    return clauses[:_MOST_CLAUSES] if len(clauses) > 1 else []


def _each_of_two(clause: str) -> tuple[str, ...]:
    """Return "price of it" and "stock of it" for "price and stock of it"; else the clause alone."""
    found = _TWO_OF_ONE.fullmatch(clause)
    if found is None:
        return (clause,)
    return found["first"] + found["rest"], found["second"] + found["rest"]


# What it asks for


@dataclass(frozen=True, slots=True)
class AskedElement:
    """A live element that answers one part of a message by itself."""

    part: int
    """Index of the part among the answer's evidence."""
    slot: LiveSlot
    without: frozenset[str] = frozenset()
    """Fields of its operation that the answer shows before it."""

    def leave_out(self) -> None:
        """Take the values that the answer shows already out of its data, unless they are all that it has."""
        filled = self.slot.filled
        if filled is None or not self.without:
            return
        values = tuple(one for one in filled.data.values if one.name not in self.without)
        if values:
            self.slot.filled = replace(filled, data=filled.data.model_copy(update={"values": values}))


@dataclass(frozen=True, slots=True)
class Example:
    system: str
    text: str
    vector: Sequence[float]
    element: str | None
    """None: a question that no element answers."""


class Matched(NamedTuple):
    """How near the elements are to a message."""

    found: list[tuple[int, LiveMatch]]
    """Index of a part, and how near an element is to it."""
    unread: list[str]
    """Halves of clauses that neither a system nor a document answers, beside one that a system does."""


class LiveQuestions:
    """Matches questions with the elements of one tenant. One instance serves all requests of a process."""

    def __init__(self, services: TenantServices) -> None:
        self._types: Mapping[str, ElementType] = (
            services.live_elements.types() if services.live_elements is not None else {}
        )
        self._embedder = services.embedder
        self._clock = services.clock
        self._sources = services.tenant.sources
        self._reach = services.tenant.reach
        self._scale = CosineScale.of(services.tenant.embedding)
        self._has_examples = any(one.about for one in self._types.values())
        self.reader = ClauseReader(services.tenant, self._types)
        self._fields = fields_of(services.tenant)
        self._examples: tuple[Example, ...] | None = None
        self._loading: asyncio.Task[None] | None = None

    def begin(self, parts: Sequence[Sequence[Clause]]) -> asyncio.Task[Vectors] | None:
        """Begin to embed the clauses of a message's parts, and once in a process the examples.

        Return the task for ``matching``; None where no element has examples. It never raises.
        """
        if not self._has_examples:
            return None
        if self._examples is None and self._loading is None:
            self._loading = asyncio.create_task(self._load())
        texts = dict.fromkeys(text for clauses in parts for one in clauses for text in one.texts)
        return asyncio.create_task(self._embed(list(texts)))

    async def matching(
        self,
        parts: Sequence[Sequence[Clause]],
        embedded: asyncio.Task[Vectors] | None,
        evidence: Sequence[Evidence],
    ) -> Matched:
        """Return for each part of a message its index and how near each element is: ``READ`` are those that
        it asks for. ``embedded``: of ``begin``. Waits for the examples the first time."""
        if embedded is None:
            return Matched([], [])
        waited = [embedded] if self._loading is None else [embedded, self._loading]
        await asyncio.wait(waited, timeout=_LIMIT_S)
        vectors: Vectors = embedded.result() if embedded.done() else {}
        found: list[tuple[int, LiveMatch]] = []
        unread: list[str] = []
        for part, (clauses, one) in enumerate(zip(parts, evidence, strict=True)):
            leaning = self._leaning(one)
            matches = [self.match(clause, vectors, leaning=leaning) for clause in clauses]
            found += [(part, match) for match in _best_of_each(list(chain.from_iterable(matches)))]
            is_read = [any(each.state is LiveMatchState.READ for each in several) for several in matches]
            if one.certainty is None and any(is_read):  # no document answers what the systems do not
                halves = zip(clauses, is_read, strict=True)
                unread += [clause.said for clause, is_one in halves if clause.is_half and not is_one]
        return Matched(found, unread)

    def match(
        self, clause: Clause, vectors: Vectors, *, leaning: Mapping[str, float] = _NOWHERE
    ) -> list[LiveMatch]:
        """Return how near each element is to a clause; at most one of them is ``READ``.

        ``vectors``: by text. ``leaning``: by system, what the routing takes from the least cosine.
        """
        matches: list[LiveMatch] = []
        for text in clause.texts:
            if (vector := vectors.get(text)) is not None:
                matches = self._match(clause, text, vector, leaning)
            if any(one.state is LiveMatchState.READ for one in matches):
                break
        return self._widened(matches) if clause.names else matches

    def _widened(self, matches: list[LiveMatch]) -> list[LiveMatch]:
        """Return the matches with the element that shows most in place of the one that is read: an agent who
        names a medicine must see which one the values are of."""
        read = next((one.element for one in matches if one.state is LiveMatchState.READ), None)
        if read is None or read not in self._fields:
            return matches
        operation, own = self._fields[read]
        offered = (one.element for one in matches if self._fields[one.element][0] == operation)
        wider = [name for name in offered if own < self._fields[name][1]]
        if not wider:
            return matches
        widest = max(wider, key=lambda name: len(self._fields[name][1]))
        states = {read: LiveMatchState.OTHER, widest: LiveMatchState.READ}
        return [one.model_copy(update={"state": states.get(one.element, one.state)}) for one in matches]

    def _match(
        self, clause: Clause, text: str, vector: Sequence[float], leaning: Mapping[str, float]
    ) -> list[LiveMatch]:
        nearest: dict[str, tuple[float, str]] = {}
        against: dict[str, float] = {}
        for example in self._examples or ():
            cosine = self._scale.value(sum(map(mul, vector, example.vector)))
            if example.element is None:
                against[example.system] = max(cosine, against.get(example.system, -1.0))
            elif cosine > nearest.get(example.element, (-1.0, ""))[0]:
                nearest[example.element] = cosine, example.text
        is_to_do = _ASKS_WHAT_TO_DO.search(fold(clause.said)) is not None
        matches: list[LiveMatch] = []
        for name, (cosine, example) in sorted(nearest.items(), key=lambda one: -one[1][0]):
            system = system_of(name)
            unknown = self.reader.unknown(text, system)
            least = NEAR + min(_A_WORD * unknown, _MOST_OF_WORDS) - leaning.get(system, 0.0)
            if clause.follows:
                least -= _FOLLOWS
            state = LiveMatchState.READ
            if is_to_do:
                state = LiveMatchState.WHAT_TO_DO
            elif cosine < least:
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

    async def _embed(self, texts: Sequence[str]) -> Vectors:
        try:
            deadline = Deadline.after(_LIMIT_S, clock=self._clock)
            return dict(zip(texts, await self._embedder.embed(texts, deadline=deadline), strict=True))
        except AssistantError as error:
            _log.warning("clauses_not_embedded", code=error.code)
            return {}

    def _asked(self) -> Iterator[tuple[str, str, str | None]]:
        """Yield system, text and element of each example."""
        for one in self._types.values():
            yield from ((system_of(one.name), text, one.name) for text in one.about)
        for entry in self._reach:
            if entry.inline is not None:
                yield from ((entry.name, text, None) for text in entry.inline.not_about)

    async def _load(self) -> None:
        asked = [(system, self.reader.plain(text), text, element) for system, text, element in self._asked()]
        try:
            deadline = Deadline.after(_LIMIT_S, clock=self._clock)
            vectors = await self._embedder.embed([plain for _, plain, _, _ in asked], deadline=deadline)
            self._examples = tuple(
                Example(system, text, vector, element)
                for (system, _, text, element), vector in zip(asked, vectors, strict=True)
            )
        except AssistantError as error:  # the next question tries again
            _log.warning("live_examples_not_embedded", code=error.code)
        finally:
            self._loading = None


def _best_of_each(matches: Sequence[LiveMatch]) -> list[LiveMatch]:
    """Return the matches of several clauses, one for each element: first those that are read, in the order of
    their clauses."""
    read = list(dict.fromkeys(one.element for one in matches if one.state is LiveMatchState.READ))
    best: dict[str, LiveMatch] = {}
    for one in matches:
        is_read = one.state is LiveMatchState.READ
        held = best.get(one.element)
        if held is None or (is_read, one.cosine - one.least) > (
            held.state is LiveMatchState.READ,
            held.cosine - held.least,
        ):
            best[one.element] = one
    for name in read[_MOST_OF_A_PART:]:
        best[name] = best[name].model_copy(update={"state": LiveMatchState.OTHER})
    others = sorted((name for name in best if name not in read), key=lambda name: -best[name].cosine)
    return [best[name] for name in (*read, *others)]


# What the answer shows already


Fields = tuple[str, frozenset[str]]
"""An element's operation, and the fields of it that the element shows."""


def fields_of(tenant: TenantConfig) -> Mapping[str, Fields]:
    """Return the fields of each element of a tenant's connectors, by name."""
    return {
        f"{entry.name}.{one.name}": (
            f"{entry.name}.{one.operation}",
            frozenset((*one.fields, *((one.link,) if one.link is not None else ()))),
        )
        for entry in tenant.reach
        for one in (entry.inline.elements if entry.inline is not None else ())
    }


class ShownFields:
    """The fields of live systems' operations that an answer shows. An element whose connector is not known
    counts as one field, its own name."""

    def __init__(self, fields: Mapping[str, Fields]) -> None:
        self._fields = fields
        self._shown: dict[str, frozenset[str]] = {}

    def add(self, element: str) -> None:
        operation, own = self._of(element)
        self._shown[operation] = self.of_operation(element) | own

    def has(self, element: str) -> bool:
        """Return whether all fields of an element are shown."""
        return self._of(element)[1] <= self.of_operation(element)

    def of_operation(self, element: str) -> frozenset[str]:
        """Return the shown fields of an element's operation."""
        return self._shown.get(self._of(element)[0], frozenset())

    def _of(self, element: str) -> Fields:
        return self._fields.get(element, (element, frozenset({element})))


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
