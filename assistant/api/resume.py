"""Reading an answer from its event log: one that another task writes, wrote, or left unfinished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from functools import partial

import orjson
import structlog

from assistant.answering.events import Problem, SentenceEnded, Sources, Token
from assistant.answering.excerpts import fill, read_excerpts
from assistant.answering.live_elements import use_of
from assistant.answering.ports import AnswerLog, AnswerRecords, DocumentTexts, LogBatch, LogReading
from assistant.api.delivery import EncodedEvent, Numbered, Reading, decode_event, last_elements
from assistant.api.errors import NOT_FOUND, problem_of
from assistant.api.running import Admission, RunningAnswers
from assistant.domain import errors
from assistant.domain.answers import AnswerRecord, Outcome, PassageUse, Sentence, Source
from assistant.domain.clock import Clock
from assistant.domain.errors import AssistantError, NotResumableError, WithdrawnError
from assistant.domain.identity import Identity
from assistant.wiring.services import ServedTenant

_NOT_KEPT = "The events of this answer were not kept, or have expired; read the answer itself."
_FOLLOW_GRACE_S = 30.0
"""Added to the answer's deadline: an owner that is gone is detected within its lease."""
LEASE_S = 5.0
"""The task that writes an answer is gone when it wrote no batch for this long, by the follower's clock. It
writes a batch about every second; a batch that is late by a timeout of the store (3 s) is in time."""
_OPENING_LEASE_S = 15.0
"""The same before the first batch: preparing an answer has its own limits, 13 s by default."""
_POLL_S = 0.4
_SIGNAL_INTERVAL_S = 2.0
_TIMEOUT_S = 3.0
_STORE_DOWN = errors.RecordsUnavailableError("Cannot read the rest of the answer now. Resume it shortly.")
_log = structlog.get_logger(__name__)


def record_of_interrupted(reading: LogReading, *, now: datetime) -> AnswerRecord:
    """Return the record in the log's opening, completed by the logged sources, text and sentences. Texts of
    documents stay excerpts."""
    frames = [frame for batch in reading.batches for frame in batch.frames]
    excerpts = {excerpt.mark: excerpt for batch in reading.batches for excerpt in batch.excerpts}
    events = [event for frame in frames if (event := decode_event(frame)) is not None]
    sentences = [event for event in events if isinstance(event, SentenceEnded)]
    sources = [source for event in events if isinstance(event, Sources) for source in event.sources]
    return AnswerRecord.model_validate_json(reading.opening.context).model_copy(
        update={
            "finished_at": now,
            "text": "".join(event.text for event in events if isinstance(event, Token)),
            "sentences": tuple(Sentence(**sentence.model_dump()) for sentence in sentences),
            "passages": tuple(map(_use_of, sources)),
            "elements": tuple(map(use_of, last_elements(events))),
            "excerpts": tuple(excerpts.values()),
        }
    )


def _use_of(source: Source) -> PassageUse:
    """Return a passage's use from a logged source. The log does not have the retrieval's scores."""
    return PassageUse(
        passage_id="",
        document_id=source.document_id,
        content_hash=source.content_hash,
        text_hash="",
        n=source.n,
        rank=source.n,
        fused_score=source.score,
        lexical_rank=None,
        lexical_score=None,
        vector_rank=None,
        cosine=None,
        in_prompt=False,
        title=source.title,
        span=source.span,
        url=source.url,
        source=source.source,
    )


async def settle_lapsed(
    answer_id: str, *, log: AnswerLog, records: AnswerRecords, clock: Clock
) -> AssistantError:
    """Settle an answer whose writing task is gone, within 3 s; return the error for its readers.

    When the task had recorded a whole answer, only its last events are lost: the record and the key stay.
    Otherwise record what the log has, and free the key. An error of the store is logged.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            record = await records.get_answer(answer_id)
            if record is not None and record.outcome is Outcome.DONE:
                return NotResumableError(
                    "The answer is complete, but its last events were lost with the task that wrote it. Read"
                    f" it: GET /v1/answers/{answer_id}."
                )
            reading = await log.read(answer_id)
            if reading is not None:
                await records.put_interrupted(record_of_interrupted(reading, now=clock.now()))
                await log.free_key(reading.opening)
    except (AssistantError, TimeoutError) as error:
        _log.warning("interrupted_answer_not_recorded", answer_id=answer_id, error=type(error).__name__)
    return errors.AnswerInterruptedError(
        "The task that wrote this answer ended before the answer did. No event follows. Ask again."
    )


class KeptEvents:
    """Fills the excerpts in one log's batches with the documents' current texts, for one reader."""

    def __init__(self, texts: DocumentTexts, *, labels: frozenset[str]) -> None:
        self._texts = texts
        self._labels = labels
        self._shown: set[str] = set()
        """Documents that the answer has shown so far, to this reader or an earlier one."""

    async def frames(self, batches: Sequence[LogBatch]) -> list[Sequence[bytes]]:
        """Return each batch's frames, byte for byte as they were sent first.

        Raises WithdrawnError when the reader may no longer read a document that the answer has shown so far;
        DependencyError.
        """
        excerpts = {excerpt.mark: excerpt for batch in batches for excerpt in batch.excerpts}
        read = {excerpt.document_id for excerpt in excerpts.values()}
        if any(batch.frames for batch in batches):
            await refuse_withdrawn(self._shown - read, self._texts, labels=self._labels)
        self._shown |= read
        found = await read_excerpts(list(excerpts.values()), self._texts, labels=self._labels)
        texts = {mark: text for mark, text in found.items() if text is not None}
        if len(texts) < len(found):
            raise _withdrawn()
        return [_filled(batch, texts) for batch in batches]


def _filled(batch: LogBatch, texts: Mapping[int, str]) -> Sequence[bytes]:
    if not batch.excerpts:
        return batch.frames
    return [fill(frame.decode(), texts, encode=_in_json).encode() for frame in batch.frames]


async def refuse_withdrawn(
    document_ids: Collection[str], texts: DocumentTexts, *, labels: frozenset[str]
) -> None:
    """Raises WithdrawnError when one of the documents may no longer be read; DependencyError."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            readable = await asyncio.gather(
                *(texts.is_readable(document_id, labels=labels) for document_id in document_ids)
            )
    except TimeoutError:
        raise errors.DependencyError(
            f"The document store did not say within {_TIMEOUT_S:.0f} s what may be read. Retry."
        ) from None
    if not all(readable):
        raise _withdrawn()


def _in_json(text: str) -> str:
    """Return the text as the inside of a JSON string."""
    return orjson.dumps(text)[1:-1].decode()


def _withdrawn() -> WithdrawnError:
    return WithdrawnError(
        "A document that this answer shows was withdrawn, or you may no longer read it. The answer is not"
        " sent again. Ask again."
    )


@dataclass(eq=False)
class LogFollower:
    """An ``EventReader`` over an ``AnswerLog``: the events after a sequence, then all that follow.

    The owner is the task that writes the answer. When its lease lapses, the follower ends with an ``error``
    event for the error that ``on_lapse`` returns. The event has no id, because it is not in the log. A reader
    who may no longer read a document that the answer shows gets ``error`` ``withdrawn``, also without an id.
    ``stop`` ends the follower without a last event, so that its reader resumes on another task;
    ``judge_owner`` can go on after that.
    """

    log: AnswerLog
    reading: InitVar[LogReading]
    after: int
    clock: Clock
    on_lapse: Callable[[], Awaitable[AssistantError]]
    kept: KeptEvents
    is_judged: bool = False
    """Whether the owner wrote since this follower began, or is known to be gone."""
    _batch: int = 0
    _signalled_s: float = float("-inf")
    _unshown_since_s: float | None = None
    _ended: bool = False

    def __post_init__(self, reading: LogReading) -> None:
        self._answer_id = reading.opening.answer_id
        self._unread = reading.batches
        self._renewed_s = self._read_s = self.clock.monotonic_s()

    def stop(self) -> None:
        self._ended = True

    async def take(self, *, beat_s: float) -> list[Numbered] | None:
        due_s = self.clock.monotonic_s() + beat_s
        while not self._ended:
            found = await self._show_unread()
            if not found and not self._ended:
                found = await self._check_lease()
            if found:
                return found
            if self._ended:
                break
            if self.clock.monotonic_s() >= due_s:
                return []
            await asyncio.sleep(_POLL_S)
            await self._poll()
        return None

    async def judge_owner(self) -> None:
        """Return when the owner wrote a batch, or its lease lapsed and ``on_lapse`` was called.

        Without this, a caller who always leaves before the lease lapses would never free its key.

        The end of a reader, or a store that is down, says nothing about the owner: go on polling."""
        self._take_unread()
        self._signalled_s = float("inf")  # send no more signals: the reader has left
        while not self.is_judged:
            await self._check_lease()
            if not self.is_judged:
                await asyncio.sleep(_POLL_S)
                await self._poll()

    async def _show_unread(self) -> list[Numbered]:
        """Return the events of the unread batches; a last event when a document that they show was withdrawn.
        While the documents cannot be read, the batches wait."""
        if not self._unread:
            return []
        try:
            framed = await self.kept.frames(self._unread)
        except WithdrawnError as error:
            self._take_unread()
            self._ended = True
            return [(0, problem_of(error))]
        except AssistantError as error:
            _log.warning("texts_not_read", answer_id=self._answer_id, code=error.code)
            return self._without_texts()
        self._unshown_since_s = None
        found: list[Numbered] = [
            (sequence, EncodedEvent(frame))
            for batch, frames in zip(self._unread, framed, strict=True)
            for sequence, frame in enumerate(frames, start=batch.first_sequence)
            if sequence > self.after
        ]
        self._take_unread()
        return found

    def _without_texts(self) -> list[Numbered]:
        now_s = self.clock.monotonic_s()
        self._renewed_s = now_s  # the owner wrote; only its text cannot be shown
        self._unshown_since_s = now_s if self._unshown_since_s is None else self._unshown_since_s
        if now_s - self._unshown_since_s <= LEASE_S:
            return []
        self._ended = True
        return [(0, problem_of(_STORE_DOWN))]

    def _take_unread(self) -> None:
        for batch in self._unread:
            self._batch, self._renewed_s = batch.number, self.clock.monotonic_s()
            self._ended = self._ended or batch.ended
            self.is_judged = self.is_judged or batch.ended
        self._unread = ()

    async def _check_lease(self) -> list[Numbered]:
        """Return a last event when the log cannot be read or its owner is gone; the record exists then."""
        now_s = self.clock.monotonic_s()
        if now_s - self._read_s > LEASE_S:
            self._ended = True
            return [(0, problem_of(_STORE_DOWN))]
        if now_s - self._renewed_s > (LEASE_S if self._batch else _OPENING_LEASE_S):
            _log.warning("answer_interrupted", answer_id=self._answer_id)
            self.is_judged = True
            ended_by = await self.on_lapse()
            self._ended = True
            return [(0, problem_of(ended_by))]
        return []

    async def _poll(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._signal_owner()
                reading = await self.log.read(self._answer_id, after_batch=self._batch)
        except (AssistantError, TimeoutError) as error:
            _log.warning("log_not_read", answer_id=self._answer_id, error=type(error).__name__)
            return
        if reading is None:  # expired, or the answer failed before its first event
            self._renewed_s = float("-inf")
            return
        if self.clock.monotonic_s() - self._read_s > LEASE_S / 2:
            self._renewed_s = self.clock.monotonic_s()  # we could not poll: do not count the gap
        self._read_s = self.clock.monotonic_s()
        self._unread = reading.batches
        self.is_judged = self.is_judged or bool(reading.batches)

    async def _signal_owner(self) -> None:
        if self.clock.monotonic_s() - self._signalled_s >= _SIGNAL_INTERVAL_S:
            self._signalled_s = self.clock.monotonic_s()
            await self.log.signal_reader(self._answer_id)


@dataclass(frozen=True, slots=True)
class ResumedAnswers:
    """Opens readings of answers that a reader comes back to, written here or by another task."""

    tenants: Mapping[str, ServedTenant]
    running: RunningAnswers
    followers: set[LogFollower]
    admissions: Mapping[str, Admission]
    """Separate from those of new answers."""
    clock: Clock
    _judging: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, "asyncio.Task[None]"])
    """By answer: waits for a sign of its owner after the reader left."""

    async def close(self) -> None:
        for task in self._judging.values():
            task.cancel()
        await asyncio.gather(*self._judging.values(), return_exceptions=True)

    @asynccontextmanager
    async def follow(
        self, answer_id: str, identity: Identity, gone: asyncio.Task[None], *, after: int
    ) -> AsyncGenerator[Reading]:
        """Give the events after a sequence of an answer of the caller's own.

        Raises NotFoundError, NotResumableError (its events were not kept, or have expired), OverloadedError,
        RecordsUnavailableError.
        """
        answer = self.running.find(answer_id, identity=identity)
        if answer is None:
            async with self._follow_log(answer_id, identity, gone, after=after) as reading:
                yield reading
            return
        if answer.log is None:
            raise NotResumableError(_NOT_KEPT)
        shown = {ranked.passage.document_id for ranked in answer.prepared.found.sources.passages}
        texts = self.tenants[identity.tenant].answering.texts
        try:
            await refuse_withdrawn(shown, texts, labels=identity.labels)
        except WithdrawnError as error:
            yield Reading(answer_id, _LastEvent(problem_of(error)), answer.remaining_s())
            return
        with answer.reading(gone, after=after) as reading:
            yield reading

    @asynccontextmanager
    async def _follow_log(
        self, answer_id: str, identity: Identity, gone: asyncio.Task[None], *, after: int
    ) -> AsyncGenerator[Reading]:
        tenant = self.tenants[identity.tenant]
        records = tenant.answering.records
        log_reading = await _own_log(tenant, answer_id, identity)
        leave = self.admissions[identity.tenant].enter(identity.agent)
        follower = LogFollower(
            tenant.log,
            log_reading,
            after=after,
            clock=self.clock,
            on_lapse=partial(settle_lapsed, answer_id, log=tenant.log, records=records, clock=self.clock),
            kept=KeptEvents(tenant.answering.texts, labels=identity.labels),
        )
        gone.add_done_callback(lambda _: follower.stop())
        self.followers.add(follower)
        try:
            limit_s = tenant.answering.tenant.limits.answer_deadline_s + _FOLLOW_GRACE_S
            yield Reading(answer_id, follower, limit_s)
        finally:
            self.followers.discard(follower)
            leave()
            if not follower.is_judged and answer_id not in self._judging:
                task = self._judging[answer_id] = asyncio.create_task(follower.judge_owner())
                task.add_done_callback(lambda _: self._judging.pop(answer_id))


class _LastEvent:
    """An ``EventReader`` of one event: the end of an answer that is not sent again."""

    def __init__(self, problem: Problem) -> None:
        self._left: list[Numbered] = [(0, problem)]

    async def take(self, *, beat_s: float) -> list[Numbered] | None:  # noqa: ARG002 - of the protocol
        taken, self._left = self._left, []
        return taken or None


async def _own_log(tenant: ServedTenant, answer_id: str, identity: Identity) -> LogReading:
    """Return the log of the caller's own answer. Raises NotResumableError, NotFoundError."""
    reading = await tenant.log.read(answer_id)
    if reading is not None and reading.opening.agent == identity.agent:
        return reading
    record = await tenant.answering.records.get_answer(answer_id)
    if reading is None and record is not None and record.agent == identity.agent:
        raise NotResumableError(_NOT_KEPT)
    raise errors.NotFoundError(NOT_FOUND)
