"""Reads a question: what is searched for each part of the message, and what is asked beside documents."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from assistant.answer.adaptations import Adaptations
from assistant.answer.call import AnswerCall
from assistant.answer.embed import EmbedTexts, Vectors
from assistant.answer.find import source_ids
from assistant.answer.heads import Heads
from assistant.answer.message import PartQuery, numbers_of, questions_of
from assistant.answer.question import Question
from assistant.answer.red_flags import RedFlags
from assistant.answer.services import TenantServices
from assistant.answer.vocabulary import KnownWordsReader
from assistant.domain.answers import AnswerRecord, LiveMatch, Reading, RedFlag
from assistant.domain.documents import KnownWords
from assistant.domain.errors import EmbeddingUnavailableError, OverloadedError
from assistant.domain.live import Caller
from assistant.option import joined

_RED_FLAGS_LIMIT_S = 2.0
"""How long a question of a new process waits for the examples of red flags."""


@dataclass(frozen=True, slots=True)
class MessageReading:
    """A message as it was read."""

    kept: Reading
    """What the record keeps of it."""
    parts: tuple[PartQuery, ...]
    """What is searched for each of its questions, at least one."""
    caller: Caller
    """Who asks live systems, with the words in which they look for parameters."""
    live: tuple[tuple[int, LiveMatch], ...]
    """How near each live element is to each question, by the question's index."""
    unchecked_language: str | None
    """ISO 639-1 code of the message's language, where red flags are not checked in it."""
    vectors: Vectors
    """Of the texts that were embedded to read it."""
    degraded: tuple[str, ...]
    """Steps that were left out because they failed or were late."""


@dataclass(frozen=True, slots=True)
class RaisedFlags:
    """The red flags of a message."""

    flags: tuple[RedFlag, ...]
    degraded: tuple[str, ...] = ()
    """As in ``MessageReading``."""


class Beside:
    """Finds what a question asks of live systems, by the elements' example questions: what is answered
    beside documents. This class finds nothing: the option for live systems overrides it (``BESIDE``).
    ``ReadQuestion`` calls it, ``load`` before ``match``.
    """

    are_there = False
    """Whether any element has examples, so that a question may ask for it."""

    def plain(self, text: str) -> str:
        """Return a text as the examples of elements are written: "where is the order" for "where is
        4471-2208"."""
        return text

    def without_names(self, question: str, *, known: Collection[str]) -> str:
        """Return a question with "it" for each of its ``names``. ``known``: as ``names``."""
        del known
        return question

    def names(self, question: str, *, known: Collection[str]) -> tuple[str, ...]:
        """Return the words of a question that may be names of what systems hold, folded ("lisinopril"): what
        is read must contain each of them. ``known``: words of the tenant's glossary, which are no names."""
        del question, known
        return ()

    async def load(self) -> bool:
        """Wait a little for the examples' vectors, which ``match`` needs; return whether they are there.
        Raises nothing."""
        return True

    def match(self, vector: Sequence[float], *, live: float | None) -> list[LiveMatch]:
        """Return how near each element is to a question, the nearest first; at most one of them is ``READ``.

        ``vector``: of the question as examples are written, unit length; ``live``: log-odds that the question
        asks for live data (``Heads.live_score``); None: unknown.
        """
        del vector, live
        return []


def open_beside(services: TenantServices) -> Beside:
    """Return the ``Beside`` of the first option that brings one, else the one that finds nothing."""
    return next(iter(joined(lambda option: option.beside(services))), Beside())


class ReadQuestion:
    """Reads the messages of one tenant.

    Example::

        reading = await read.run(question, call)  # "Are refills payable? Where is my order?"
        [query.question for query in reading.parts]  # ["Are refills payable?", "Where is my order?"]
        reading.live[0]  # (1, LiveMatch(element="orders.status", state=READ, ...))
        await read.raise_flags(question, reading, call)  # RaisedFlags(flags=())
    """

    def __init__(self, services: TenantServices, adaptations: Adaptations, embed: EmbedTexts) -> None:
        tenant = services.tenant
        self._tenant, self._adaptations, self._embed = tenant, adaptations, embed
        self._writes_answers = services.writes_answers
        self._known_words = KnownWordsReader(
            services.search, clock=services.clock, items_of=source_ids(tenant, kind="catalogue")
        )
        self.beside = open_beside(services)
        """Finds what a question asks of live systems."""
        self._red_flags = RedFlags(tenant, embedder=services.embedder, clock=services.clock)
        self._heads = Heads(adaptations.now.vocabulary, embedding_model=tenant.embedding.model)

    async def run(self, question: Question, call: AnswerCall) -> MessageReading:
        """Embed the message by one call, read it, and match it with live elements.

        Raises EmbeddingUnavailableError, OverloadedError, DeadlineExceededError.
        """
        text, degraded, conversation = question.text, list[str](), question.conversation
        questions = (text,)  # of a chat all is searched, as one question
        newest = conversation.newest if not conversation.asked else ""
        if not conversation.turns:
            questions = questions_of(text, vocabulary=self._adaptations.now.vocabulary)
        known = await self._known_words.read()
        if known is None:
            degraded.append("words of the documents")
        vectors, has_examples, has_flags = await asyncio.gather(
            self._embed.run(self._texts(questions, known, text, *filter(None, [newest])), call),
            self.beside.load(),
            self._red_flags.load(within_s=_RED_FLAGS_LIMIT_S),
        )
        if not has_examples:
            degraded.append("examples of live elements")
        if not has_flags:
            degraded.append("red flags")
        named = self._adaptations.named(text, known=known)
        kept = Reading(
            questions=questions,
            leans=bool(conversation.asked_before) and self._heads.leans(questions[0], vectors),
            items=() if named is None else tuple(sorted(named.ids)),
            asks=self._heads.asks_something(newest or text, vectors),  # thanks for what was answered before
        )
        is_written = self._writes_answers and question.request.mode == "auto"
        parts = self._parts(kept, known, vectors, is_written=is_written, at=question.written)
        # where what is searched has no number, an order's number may stand elsewhere in the chat
        numbers = () if any(map(str.isdigit, text)) else numbers_of(question.said)
        asked = "\n".join((text, *numbers))
        caller = Caller(question.identity, question.context, asked, question.ids.answer_id)
        return MessageReading(
            kept=kept,
            parts=parts,
            caller=self._for_systems(caller, kept.items),
            live=tuple(self._matched(parts, vectors)) if self.beside.are_there and kept.asks else (),
            unchecked_language=self._red_flags.unchecked_language(question.said),
            vectors=vectors,
            degraded=tuple(degraded),
        )

    async def raise_flags(self, question: Question, reading: MessageReading, call: AnswerCall) -> RaisedFlags:
        """Return the red flags of the message, of which the whole and, of a long one, its windows are read.
        Where windows cannot be embedded, the rest is read, and ``degraded`` says so. The search need not wait
        for it. Raises DeadlineExceededError."""
        text, vectors, degraded = question.said, reading.vectors, ()
        wanted = [piece for piece in self._red_flags.pieces(text) if piece not in vectors]
        try:
            if wanted:
                vectors = {**vectors, **await self._embed.run(wanted, call)}
        except (EmbeddingUnavailableError, OverloadedError):
            degraded = ("red flags",)
        return RaisedFlags(self._red_flags.raised(text, vectors), degraded)

    def as_asked(self, caller: Caller, record: AnswerRecord) -> Caller:
        """Return the caller of a recorded question with the words that systems got when it was answered
        (``_for_systems``), to read its live elements again. ``caller``: with the question as it was typed;
        ``record``: of that answer, whose ``reading`` has the items."""
        return self._for_systems(caller, record.reading.items if record.reading is not None else ())

    def _texts(self, questions: Sequence[str], known: KnownWords | None, *more: str) -> list[str]:
        """Return the texts whose vectors are needed, each once: ``more``, the questions, and these as the
        examples of live elements are written, and as a router reads them."""
        texts = [*more, *questions]
        if self.beside.are_there:
            texts += [self._as_examples(question, known) for question in questions]
        if len(self._tenant.sources) > 1:
            texts += [self._adaptations.without_names(question, known=known) for question in questions]
        return list(dict.fromkeys(texts))

    def _parts(
        self,
        reading: Reading,
        known: KnownWords | None,
        vectors: Vectors,
        *,
        is_written: bool,
        at: datetime | None,
    ) -> tuple[PartQuery, ...]:
        """Return what is searched for each question, with its vectors. The words of an answer are shared out
        among the questions. ``vectors``: of all ``_texts``; so each question has one as the router reads it
        only where the tenant has several sources. ``is_written``: a model writes."""
        lengths, count = self._tenant.answers, len(reading.questions)
        queries: list[PartQuery] = []
        for question in reading.questions:
            leans = reading.leans if not queries else self._heads.leans(question, vectors)
            routed = self._adaptations.without_names(question, known=known)
            queries.append(
                PartQuery(
                    question,
                    vectors[question],
                    leans=leans,
                    routed_text=routed,
                    routed_vector=vectors.get(routed, vectors[question]),
                    known=known,
                    is_searched=reading.asks and (is_written or not leans),
                    at=at,
                    max_words=lengths.max_words // count,
                    also_words=lengths.also_words // count,
                )
            )
        return tuple(queries)

    # Live elements

    def _for_systems(self, caller: Caller, items: Sequence[str]) -> Caller:
        """Return a caller whose question live systems can read. ``caller``: with the question as typed;
        ``items``: numbers of those that it names.

        ``names`` become those of the question (``Beside.names``). Where it means one item, and does not have
        its number, the number is added on a line, for a connector finds parameters by their patterns alone:
        "Is it in stock?" becomes "Is it in stock?\\nHU-1011".
        """
        names = self.beside.names(caller.question, known=self._adaptations.now.vocabulary.words)
        is_missing = len(items) == 1 and items[0].casefold() not in caller.question.casefold()
        question = f"{caller.question}\n{items[0]}" if is_missing else caller.question
        return replace(caller, question=question, names=names)

    def _matched(self, queries: Sequence[PartQuery], vectors: Vectors) -> list[tuple[int, LiveMatch]]:
        """Return how near each live element is to each question, by the question's index."""
        matched: list[tuple[int, LiveMatch]] = []
        for part, query in enumerate(queries):
            text = self._as_examples(query.question, query.known)
            vector = vectors.get(text, query.vector)
            live = self._heads.live_score(vector)
            matched += [(part, match) for match in self.beside.match(vector, live=live)]
        return matched

    def _as_examples(self, question: str, known: KnownWords | None) -> str:
        """Return a question as the examples of live elements are written: "the order" for an order's number,
        "it" for the name of an item, or of what a connector reads."""
        text = self.beside.plain(self._adaptations.without_names(question, known=known))
        return self.beside.without_names(text, known=self._adaptations.now.vocabulary.words)
