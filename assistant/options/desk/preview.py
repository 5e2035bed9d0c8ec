"""Shows which recent questions an approved answer would capture, before it is proposed.

A reviewer writes an answer for "Where do I order a new headset?". The preview: captured are the recent
questions with the same words; near are others, each with the reason why it is only offered the answer, or
gets none.
"""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from assistant.domain.answers import AnswerRecord
from assistant.domain.audit import AccessEntry, AccessQuery
from assistant.domain.clock import Clock, Deadline
from assistant.domain.identity import Identity
from assistant.domain.public import fields_of
from assistant.options.desk import bodies
from assistant.options.desk.approved import ApprovedAnswer, ApprovedAnswers, LiveAnswer, Reason
from assistant.options.desk.cases import DeskServices, read_records
from assistant.stores.ports import TextEmbedder

MOST_QUESTIONS = 200
"""Different recent questions that a preview compares; embedding one takes about 10 ms on a laptop."""
MOST_NEAR = 20
"""Questions that are shown though they are not captured, the nearest first."""
_PERIODS = (timedelta(hours=1), timedelta(hours=8), timedelta(days=2), timedelta(days=14))
"""Periods before now that are read, each longer than the last, until one has ``MOST_QUESTIONS`` answers."""
_MOST_PAGES = 4
_PAGE = 500
"""Entries of a page of the access log."""
_EMBEDDED_AT_ONCE = 32
_EMBEDDING_TIMEOUT_S = 12.0
_MOST_VECTORS = 2_000
"""Vectors that are kept: ten previews of other questions."""
WHY: Mapping[Reason, str] = {
    "equal": "It is the same question.",
    "near": "It is near: the answer is offered beside another one.",
    "none_near": "It is about something else.",
    "number": "It has another number or code.",
    "name": "It names something else.",
}
"""Shown for each question. ``_compared`` tells captured ones by the text for "equal"."""
MatcherOf = Callable[[Iterable[LiveAnswer]], ApprovedAnswers]


class QuestionVectors:
    """Vectors of questions by the tenant's embedder, the last 2,000 kept by a hash: no question is kept."""

    def __init__(self, embedder: TextEmbedder, *, clock: Clock) -> None:
        self._embedder = embedder
        self._clock = clock
        self._kept: OrderedDict[bytes, array[float]] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    async def of(self, questions: Sequence[str]) -> list[array[float]]:
        """Return one unit vector a question. Raises as the embedder.

        Calls wait for each other, so that the embedder is free for agents' answers in between.
        """
        keys = [hashlib.sha256(question.encode()).digest() for question in questions]
        deadline = Deadline.after(_EMBEDDING_TIMEOUT_S, clock=self._clock)
        async with self._one_at_a_time:
            by_key = dict(zip(keys, questions, strict=True))
            missing = [key for key in by_key if key not in self._kept]
            for start in range(0, len(missing), _EMBEDDED_AT_ONCE):
                batch = missing[start : start + _EMBEDDED_AT_ONCE]
                added = await self._embedder.embed([by_key[key] for key in batch], deadline=deadline)
                self._kept.update((key, array("f", vector)) for key, vector in zip(batch, added, strict=True))
            vectors = [self._kept[key] for key in keys]
            for key in by_key:
                self._kept.move_to_end(key)
            while len(self._kept) > _MOST_VECTORS:
                self._kept.popitem(last=False)
        return vectors


@dataclass(frozen=True, slots=True)
class PreviewAnswer:
    """Compares an answer that is not stored with recent questions. ``matcher_of`` prepares it as serving
    does."""

    services: DeskServices
    vectors: QuestionVectors
    matcher_of: MatcherOf
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """At most two previews of a tenant run at the same time."""

    async def __call__(self, request: bodies.PreviewRequest, *, identity: Identity) -> bodies.DeskPreview:
        """Compare the last questions that the reader may see. The read is recorded.

        Raises RecordsUnavailableError, and as the embedder.
        """
        services = self.services
        async with self._turn:
            recent = await self._recent(identity)
            if not recent:
                return bodies.DeskPreview(captured=(), near=(), compared=0)
            await services.record_read("preview", {}, identity=identity)
            answer_vectors = await self.vectors.of(request.questions)
            asked_vectors = await self.vectors.of([record.question for record in recent])
            return await asyncio.to_thread(self._compared, request, answer_vectors, recent, asked_vectors)

    async def _recent(self, identity: Identity) -> list[AnswerRecord]:
        """Return the newest record of each of the last different questions that the reader may see, the
        newest first."""
        now = self.services.clock.now()
        answer_ids: list[str] = []
        for period in _PERIODS:
            query = AccessQuery(since=now - period, until=now + timedelta(seconds=1), limit=_PAGE)
            answer_ids = [entry.subject_id for entry in await self._asked(query)]
            if len(answer_ids) >= MOST_QUESTIONS:
                break
        newest = list(dict.fromkeys(reversed(answer_ids)))[: 2 * MOST_QUESTIONS]
        by_question: dict[str, AnswerRecord] = {}
        for record in await read_records(self.services.records, newest):
            names = [use.document_id for use in record.passages]
            if self.services.may_see(identity, record.labels, names):
                by_question.setdefault(record.question.casefold(), record)
        return list(by_question.values())[:MOST_QUESTIONS]

    async def _asked(self, query: AccessQuery) -> list[AccessEntry]:
        """Return the access entries of answers that were given in a period, the oldest first. Of a busy
        period only the first 2,000 entries are read."""
        entries: list[AccessEntry] = []
        for _ in range(_MOST_PAGES):
            page = await self.services.records.list_accesses(query)
            entries += [entry for entry in page.entries if entry.kind == "asked"]
            if page.next_after is None:
                break
            query = AccessQuery(query.since, query.until, after=page.next_after, limit=query.limit)
        return entries

    def _compared(
        self,
        request: bodies.PreviewRequest,
        answer_vectors: Sequence[Sequence[float]],
        recent: Sequence[AnswerRecord],
        vectors: Sequence[Sequence[float]],
    ) -> bodies.DeskPreview:
        """Match each recent question with the answer. Takes CPU: run it in a thread."""
        now = self.services.clock.now()
        today = now.date()
        answer = ApprovedAnswer(
            questions=request.questions,
            vectors=tuple(map(tuple, answer_vectors)),
            embedding_model=self.services.embedding_model,
            text=request.text,
            owner="",
            expires_on=today + timedelta(days=1),
            proposed_by="",
        )
        matcher = self.matcher_of([LiveAnswer("preview", 1, now, answer)])
        matches = [
            (record, matcher.match(record.question, vector, labels=frozenset(), today=today))
            for record, vector in zip(recent, vectors, strict=True)
        ]
        shown = [
            bodies.DeskNear(
                answer_id=record.answer_id,
                question=record.question,
                cosine=round(match.cosine, 3),
                why=WHY[match.reason],
            )
            for record, match in sorted(matches, key=lambda match: -match[1].cosine)
            if match.live is not None
        ]
        equal = [question for question in shown if question.why == WHY["equal"]]
        captured = [bodies.DeskCaptured(**fields_of(question, bodies.DeskCaptured)) for question in equal]
        near = [question for question in shown if question.why != WHY["equal"]]
        return bodies.DeskPreview(
            captured=tuple(captured), near=tuple(near[:MOST_NEAR]), compared=len(recent)
        )
