"""Reads a question: what is searched for each part of the message, and what is asked beside documents."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from assistant.answer.adaptations import Adaptations
from assistant.answer.heads import Heads, Judged, Vectors
from assistant.answer.message import Message, ids_in, numbers_of
from assistant.answer.red_flags import RedFlags
from assistant.answer.services import TenantServices
from assistant.answer.sources import EvidenceQuery, SearchScope, SourceSearch, source_ids, with_earlier
from assistant.answer.take import Question
from assistant.answer.vocabulary import KnownWordsReader
from assistant.domain.answers import AnswerRecord, LiveMatch, Reading, RedFlag
from assistant.domain.documents import KnownWords
from assistant.domain.errors import EmbeddingUnavailableError, OverloadedError
from assistant.domain.live import Caller
from assistant.option import joined

_RED_FLAGS_LIMIT_S = 2.0
"""How long a question of a new process waits for the examples of red flags."""
_MOST_IDS = 20
"""Numbers and codes of a message that its record keeps."""


@dataclass(frozen=True, slots=True)
class Queries:
    """A message as it was read."""

    reading: Reading
    """What the record keeps of it."""
    each: tuple[EvidenceQuery, ...]
    """What is searched for each of its questions, at least one."""
    caller: Caller
    """Who asks live systems, with the words in which they look for parameters."""
    live: tuple[tuple[int, LiveMatch], ...]
    """How near each live element is to each question, by the question's index."""
    red_flags: asyncio.Task[tuple[RedFlag, ...]]
    """Goes on beside the search; ``AnswerQuestion.prepare`` awaits it at its end."""
    unchecked_language: str | None
    """ISO 639-1 code of the message's language, where red flags are not checked in it."""


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

    async def load(self, scope: SearchScope) -> None:
        """Wait a little for the examples' vectors, which ``match`` needs; where they are late, note that in
        ``scope.degraded``. Raises nothing."""

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

        queries = await read.run(question, scope)  # "Are refills payable? Where is my order?"
        [query.text for query in queries.each]  # ["Are refills payable?", "Where is my order?"]
        queries.live[0]  # (1, LiveMatch(element="orders.status", state=READ, ...))
        await queries.red_flags  # ()
    """

    def __init__(self, services: TenantServices, adaptations: Adaptations, sources: SourceSearch) -> None:
        tenant = services.tenant
        self._tenant, self._adaptations, self._sources = tenant, adaptations, sources
        self._known_words = KnownWordsReader(
            services.search, clock=services.clock, items_of=source_ids(tenant, kind="catalogue")
        )
        self.beside = open_beside(services)
        """Finds what a question asks of live systems."""
        self._red_flags = RedFlags(tenant, embedder=services.embedder, clock=services.clock)
        self._heads = Heads(adaptations.now.vocabulary, embedding_model=tenant.embedding.model)

    async def run(self, question: Question, scope: SearchScope) -> Queries:
        """Embed the message by one call, read it, and match it with live elements. A chat was read before, by
        ``ReadChat``: the question's words are its open questions.

        Raises EmbeddingUnavailableError, OverloadedError, DeadlineExceededError.
        """
        # red flags are looked for in all of a chat, the rest is read in its open questions
        text, whole = question.request.question, question.whole or question.request.question
        # ``embed`` below fills ``vectors`` in place, and again in ``_raised``
        vocabulary, vectors = self._adaptations.now.vocabulary, scope.embedded
        message = Message.after(question.two_before, text, vocabulary=vocabulary)
        known = await self._known_words.read()
        if known is None:
            scope.degraded.append("words of the documents")
        await asyncio.gather(
            self._sources.embed(self._texts(message, known), scope),
            self.beside.load(scope),
            self._load_red_flags(scope),
        )
        red_flags = scope.beside(self._raised(whole, scope))  # a task: the search does not wait for it
        judged = self._heads.judge(message, vectors)
        each = self._queries(message, judged, known, vectors, at=question.begun.written)
        items = self._items(text, each[0], question.history)
        earlier = judged.earlier[0]
        reading = Reading(
            questions=message.questions,
            search_text=with_earlier(" ".join(message.questions), earlier),
            leans=earlier is not None,
            kind=judged.kind,
            items=items,
            ids=ids_in(text)[:_MOST_IDS],
            asks=judged.asks,
        )
        # where the open questions have no number, an order's number may stand elsewhere in the chat
        numbers = () if any(map(str.isdigit, text)) else numbers_of(question.said)
        caller = Caller(
            question.identity, question.context, "\n".join((text, *numbers)), question.begun.answer_id
        )
        return Queries(
            reading,
            each,
            self._for_systems(caller, items),
            tuple(self._matched(each, vectors)) if self.beside.are_there and judged.asks else (),
            red_flags,
            self._red_flags.unchecked_language(whole),
        )

    def as_asked(self, caller: Caller, record: AnswerRecord) -> Caller:
        """Return the caller of a recorded question with the words that systems got when it was answered
        (``_for_systems``), to read its live elements again. ``caller``: with the question as it was typed;
        ``record``: of that answer, whose ``reading`` has the items."""
        return self._for_systems(caller, record.reading.items if record.reading is not None else ())

    def _texts(self, message: Message, known: KnownWords | None) -> list[str]:
        """Return the texts whose vectors are needed, each once: the message and its questions, these below
        the words that they may lean on, as the examples of live elements are written, and as a router reads
        them.

        Which questions lean on what is judged by these vectors, so each pair that ``Heads.judge`` can choose
        is here: the first question below ``before`` and below ``named_above``, a later one below the first.
        """
        first, *more = message.questions
        words_above = filter(None, (message.before, message.named_above))
        joined = [with_earlier(first, earlier) for earlier in words_above]
        joined += [with_earlier(question, first) for question in more]
        live: list[str] = []
        if self.beside.are_there:
            live = [self._as_examples(question, known) for question in message.questions]
        read_by_router = (*message.questions, *joined) if len(self._tenant.sources) > 1 else ()
        routed = [self._adaptations.without_names(text, known=known) for text in read_by_router]
        return list(dict.fromkeys((message.text, *message.questions, *joined, *live, *routed)))

    def _queries(
        self,
        message: Message,
        judged: Judged,
        known: KnownWords | None,
        vectors: Vectors,
        *,
        at: datetime | None,
    ) -> tuple[EvidenceQuery, ...]:
        """Return what is searched for each question, with its vectors. The words of an answer are shared out
        among the questions. ``vectors``: of all ``_texts``; so each question has one below the words that it
        leans on, and one as the router reads it only where the tenant has several sources."""
        lengths, count = self._tenant.answers, len(message.questions)
        queries: list[EvidenceQuery] = []
        for question, earlier in zip(message.questions, judged.earlier, strict=True):
            text = with_earlier(question, earlier)
            routed = self._adaptations.without_names(text, known=known)
            queries.append(
                EvidenceQuery(
                    question,
                    vectors[text],
                    before=earlier,
                    routed_text=routed,
                    routed_vector=vectors.get(routed, vectors[text]),
                    known=known,
                    asks=judged.asks,
                    at=at,
                    max_words=lengths.max_words // count,
                    also_words=lengths.also_words // count,
                )
            )
        return tuple(queries)

    def _items(self, text: str, first: EvidenceQuery, history: Sequence[AnswerRecord]) -> tuple[str, ...]:
        """Return the numbers of the items that a message means. ``first``: the message's first question;
        ``history``: the turns before, oldest first.

        | the message                                                 | items of                    |
        | names some: "Is HU-1011 quiet?"                             | the message                 |
        | names none, leans on nothing: "What of refunds?"            | nothing                     |
        | leans on words above, which name some: "And is it quiet?"   | those words                 |
        | leans on words above, which name nothing either             | the last turn that had any  |

        What is named may have no number (``Named.ids`` is empty): then the words above count, and where they
        name only such things there are no items.
        """
        named = self._adaptations.named(text, known=first.known)
        if named is not None and named.ids:
            return tuple(sorted(named.ids))
        if first.before is None:
            return ()
        named = self._adaptations.named(first.text, known=first.known)
        if named is not None:
            return tuple(sorted(named.ids))
        recorded = (turn.reading.items for turn in reversed(history) if turn.reading is not None)
        return next(filter(None, recorded), ())

    # Live elements

    def _for_systems(self, caller: Caller, items: Sequence[str]) -> Caller:
        """Return a caller whose question live systems can read. ``caller``: with the question as typed;
        ``items``: by ``_items``.

        ``names`` become those of the question (``Beside.names``). Where it means one item, and does not have
        its number, the number is added on a line, for a connector finds parameters by their patterns alone:
        "Is it in stock?" becomes "Is it in stock?\\nHU-1011".
        """
        names = self.beside.names(caller.question, known=self._adaptations.now.vocabulary.words)
        is_missing = len(items) == 1 and items[0].casefold() not in caller.question.casefold()
        question = f"{caller.question}\n{items[0]}" if is_missing else caller.question
        return replace(caller, question=question, names=names)

    def _matched(self, queries: Sequence[EvidenceQuery], vectors: Vectors) -> list[tuple[int, LiveMatch]]:
        """Return how near each live element is to each question, by the question's index. A first question
        that leans on earlier words is matched with these, by the vector that is searched with."""
        matched: list[tuple[int, LiveMatch]] = []
        for part, query in enumerate(queries):
            text = self._as_examples(query.question, query.known)
            # ``query.vector`` has the words that a question leans on. Those of a later question are the first
            # question, whose element it would match again: so it is matched by its own words.
            uses_words_above = part == 0 and query.before is not None
            vector = query.vector if uses_words_above else vectors.get(text, query.vector)
            live = self._heads.live_score(vector)
            matched += [(part, match) for match in self.beside.match(vector, live=live)]
        return matched

    def _as_examples(self, question: str, known: KnownWords | None) -> str:
        """Return a question as the examples of live elements are written: "the order" for an order's number,
        "it" for the name of an item, or of what a connector reads."""
        text = self.beside.plain(self._adaptations.without_names(question, known=known))
        return self.beside.without_names(text, known=self._adaptations.now.vocabulary.words)

    # Red flags

    async def _load_red_flags(self, scope: SearchScope) -> None:
        """Wait a little for the examples of flags in a new process; where they are late, note in
        ``scope.degraded`` that the message is unchecked."""
        await self._red_flags.load(within_s=_RED_FLAGS_LIMIT_S)
        if not self._red_flags.is_ready:
            scope.degraded.append("red flags")

    async def _raised(self, text: str, scope: SearchScope) -> tuple[RedFlag, ...]:
        """Return the red flags of the message, of which the whole and, of a long one, its windows are read.
        Where windows cannot be embedded, the rest is read, and ``scope.degraded`` says so."""
        wanted = [piece for piece in self._red_flags.pieces(text) if piece not in scope.embedded]
        try:
            if wanted:
                await self._sources.embed(wanted, scope)
        except (EmbeddingUnavailableError, OverloadedError):
            scope.degraded.append("red flags")
        return self._red_flags.raised(text, scope.embedded)
