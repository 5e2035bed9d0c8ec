"""Gathers feedback events into arrays that a learner reads: one row for each answer that somebody acted on.

Events stream through ``SignalCollector``; no event is kept. An answer's candidates are stored once, and all
acts on it are joined, in whatever order they arrive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from assistant.answering.rank import INDEX_FEATURES, Weights
from assistant.domain.answers import VerdictLabel
from assistant.domain.errors import InvalidRequestError
from assistant.domain.feedback import FEEDBACK_VERSION, FeedbackEvent, FeedbackKind, ShownDocument

MOST_CANDIDATES = 20
FEATURES = len(INDEX_FEATURES)
_BLOCK = 4_096
"""Answers in one block of the growing arrays."""
_AS_IT_STOOD = 0.15
"""Share of words that an edit may change for the text to count as sent unchanged."""
_REWRITTEN = 0.6
"""Share of words from which on a sent text counts as another one."""
_OF_THE_TEXT = frozenset({"outdated", "incomplete"})
"""Reasons of a bad verdict that say nothing against the choice of the document."""

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Channel = Literal["verdict", "sent", "possibly", "reformulated"]
CHANNELS: tuple[Channel, ...] = ("verdict", "sent", "possibly", "reformulated")
"""Ways to judge an answer, most explicit first. Of several on one answer the first counts, and no other: they
are of one mind of one agent."""


@dataclass(frozen=True, slots=True)
class Caps:
    """The most answers that count. What is over a cap is left out, chosen by the seed and not by time."""

    per_agent_day: int = 40
    per_agent: int = 400
    per_conversation: int = 5
    per_question: int = 20
    """Answers whose candidates have equal features were given to one question, whose evidence is added up."""
    agent_share: float = 0.25
    """Of all weight. An agent with more is weighed down."""


@dataclass(frozen=True, slots=True)
class Signals:
    """Answers that were acted on; n answers, k = 20 candidates in ranked order.

    ``documents`` has -1 and ``scores`` -inf where an answer has fewer candidates.
    """

    names: tuple[str, ...]
    """Document ids; ``documents`` holds their indices."""
    documents: NDArray[np.int32]
    """(n, k)"""
    scores: Floats
    """(n, k) Final scores as they were served."""
    stage: Floats
    """(n, k) First-stage score of a document whose units were read; NaN where they were not."""
    features: Floats
    """(n, k, 6) Raw index features; NaN where no leg gave one."""
    listed: Flags
    """(n, k) Whether the agent saw it among the numbered sources."""
    quoted: Numbers
    """(n,) Column of the quoted document."""
    propensity: Floats
    """(n,) Probability that serving put the quoted document where it was."""
    channel: Numbers
    """(n,) Index into CHANNELS; -1 where the answer was not judged."""
    judged_good: Flags
    """(n,)"""
    opened: Flags
    """(n, k) Sources that the agent opened, other than the quoted one."""
    wrong: Flags
    """(n, k) Documents marked as wrongly cited."""
    found_next: Flags
    """(n, k) What the agent accepted when they asked again in other words."""
    agents: Numbers
    """(n,)"""
    questions: Numbers
    """(n,) Equal where candidates and their features are."""
    weights: Floats
    """(n,) Of each answer: the cap on an agent's share, times the inverse propensity, mean 1."""
    served: Numbers
    """(n,) Index into ``rankers``."""
    rankers: tuple[Weights, ...]
    agent_names: tuple[str, ...]
    left_out: Mapping[str, int]
    """Answers and events that do not count, by reason."""
    window: tuple[datetime, datetime] | None
    """First and last act."""

    def __len__(self) -> int:
        return len(self.quoted)


@dataclass(slots=True)
class _Acts:
    """What was done with one answer so far: some 400 bytes, since there may be 100,000."""

    row: int
    agent: int
    conversation: int
    """As a number, as all that is only counted."""
    day: int
    question: int
    served: int
    quoted: int
    propensity: float
    channel: int = -1
    good: bool = False
    judged_at: datetime | None = None
    opened: int = 0
    """Columns as bits; so below."""
    wrong: int = 0
    marked_at: datetime | None = None
    next_answer: str | None = None

    def judge(self, channel: Channel, at: datetime, good: bool) -> None:
        """Keep the judgement of the most explicit channel, and of it the latest."""
        number = CHANNELS.index(channel)
        before = (-self.channel, self.judged_at) if self.judged_at is not None else None
        if before is None or (-number, at) >= before:
            self.channel, self.judged_at, self.good = number, at, good

    def mark(self, wrong: int, at: datetime) -> None:
        """Keep the documents that the latest verdict marked as wrongly cited."""
        if self.marked_at is None or at >= self.marked_at:
            self.wrong, self.marked_at = wrong, at


class SignalCollector:
    """Takes events one at a time, in any order. ``signals`` applies the caps and returns the arrays."""

    def __init__(
        self,
        *,
        tenant: str,
        rankers: Mapping[str, Weights],
        withdrawn: Collection[str] = (),
        deleted: Collection[str] = (),
    ) -> None:
        """``rankers``: known ranker weights by SHA-256; an answer that others served cannot be replayed.
        ``withdrawn``: document ids. ``deleted``: answer ids. Signals of both are left out."""
        self._tenant = tenant
        self._rankers = tuple(rankers.values())
        self._ranker_of = {sha256: number for number, sha256 in enumerate(rankers)}
        self._withdrawn, self._deleted = frozenset(withdrawn), frozenset(deleted)
        self._seen: set[bytes] = set()
        self._answers: dict[str, _Acts] = {}
        self._names: dict[str, int] = {}
        self._agents: dict[str, int] = {}
        self._blocks: list[Floats] = []
        self._documents: list[NDArray[np.int32]] = []
        self._times: tuple[datetime, datetime] | None = None
        self.left_out: Counter[str] = Counter()

    def add(self, event: FeedbackEvent) -> None:
        """Take one event; the same one again changes nothing.

        Raises InvalidRequestError for an event of another tenant or a later schema.
        """
        if event.schema_version != FEEDBACK_VERSION:
            raise InvalidRequestError(
                f"Event {event.event_id} has schema version {event.schema_version}; this release reads "
                f"{FEEDBACK_VERSION}. Learn with the release that wrote it."
            )
        if event.tenant != self._tenant:
            raise InvalidRequestError(
                f"Event {event.event_id} is of the tenant {event.tenant}, not of {self._tenant}. "
                "Take it out of this tenant's feedback store."
            )
        identity = bytes.fromhex(event.event_id)
        if identity in self._seen:
            self.left_out["event twice"] += 1
            return
        self._seen.add(identity)
        acts = self._answers.get(event.answer_id) or self._begin(event)
        if acts is not None:
            first, last = self._times or (event.at, event.at)
            self._times = min(first, event.at), max(last, event.at)
            self._act(acts, event)

    def _begin(self, event: FeedbackEvent) -> _Acts | None:
        """Store the candidates of an answer; None where nothing can be learned from it."""
        served = self._ranker_of.get(event.weights.get("ranker", ""))
        kept = [one for one in event.documents if one.document_id not in self._withdrawn]
        quoted = next((at for at, one in enumerate(kept) if one.is_quoted), None)
        reason = None
        if event.kind is FeedbackKind.UNANSWERED:
            reason = "unanswered"
        elif event.answer_id in self._deleted:
            reason = "deleted answer"
        elif any(one.is_quoted and one.document_id in self._withdrawn for one in event.documents):
            reason = "withdrawn document"
        elif quoted is None or len(kept) < 2:
            reason = "no choice of documents"
        elif served is None:
            reason = "served by unknown weights"
        if reason is not None or quoted is None or served is None:
            self.left_out[reason or ""] += 1
            return None
        acts = _Acts(
            row=self._store(kept),
            agent=self._agents.setdefault(event.agent, len(self._agents)),
            conversation=int(event.conversation, 16),
            day=event.asked_at.date().toordinal(),
            question=_fingerprint(kept),
            served=served,
            quoted=quoted,
            propensity=kept[quoted].propensity,
        )
        self._answers[event.answer_id] = acts
        return acts

    def _store(self, kept: list[ShownDocument]) -> int:
        row = len(self._answers)
        if row % _BLOCK == 0:
            self._blocks.append(np.full((_BLOCK, MOST_CANDIDATES, FEATURES + 3), np.nan, np.float32))
            self._documents.append(np.full((_BLOCK, MOST_CANDIDATES), -1, np.int32))
        block, documents, at = self._blocks[-1], self._documents[-1], row % _BLOCK
        for column, one in enumerate(kept):
            features = one.features
            documents[at, column] = self._names.setdefault(one.document_id, len(self._names))
            block[at, column] = (
                one.score,
                features.get("index", np.nan),
                one.is_listed,
                *(features.get(name, np.nan) for name in INDEX_FEATURES),
            )
        return row

    def _act(self, acts: _Acts, event: FeedbackEvent) -> None:
        match event.kind:
            case FeedbackKind.VERDICT:
                if not _OF_THE_TEXT.issuperset(event.reasons or ("",)):
                    acts.judge("verdict", event.at, event.label is VerdictLabel.GOOD)
                columns = {self._column(acts, name) for name in event.wrong_documents} - {None}
                acts.mark(sum(1 << column for column in columns if column is not None), event.at)
            case FeedbackKind.SENT:
                good = sent_as_shown(event)
                if good is not None:
                    acts.judge("sent", event.at, good)
            case FeedbackKind.POSSIBLY_TAKEN | FeedbackKind.POSSIBLY_PASSED_OVER:
                acts.judge("possibly", event.at, event.kind is FeedbackKind.POSSIBLY_TAKEN)
            case FeedbackKind.REFORMULATED:
                acts.judge("reformulated", event.at, False)
                acts.next_answer = event.next_answer_id
            case FeedbackKind.OPENED_SOURCE:
                column = self._column(acts, event.opened or "")
                if column is not None and column != acts.quoted:
                    acts.opened |= 1 << column
            case FeedbackKind.UNANSWERED | FeedbackKind.OFFERED_USED:
                self.left_out[event.kind.value] += 1

    def _column(self, acts: _Acts, document_id: str) -> int | None:
        """Return where a document stands among an answer's candidates."""
        number = self._names.get(document_id)
        if number is None:
            return None
        found = np.flatnonzero(self._documents[acts.row // _BLOCK][acts.row % _BLOCK] == number)
        return int(found[0]) if len(found) else None

    def _rows(self, rows: Numbers) -> tuple[NDArray[np.int32], Floats]:
        """Return documents and values of these rows."""
        documents = np.empty((len(rows), MOST_CANDIDATES), np.int32)
        values = np.empty((len(rows), MOST_CANDIDATES, FEATURES + 3), np.float32)
        for number, (block_of_documents, block) in enumerate(zip(self._documents, self._blocks, strict=True)):
            here = np.flatnonzero(rows // _BLOCK == number)
            documents[here] = block_of_documents[rows[here] % _BLOCK]
            values[here] = block[rows[here] % _BLOCK]
        return documents, values

    def signals(self, *, seed: int, caps: Caps) -> Signals:
        """Return what counts. The same events in any order and the same seed give the same arrays."""
        kept = self._within(caps, seed)
        documents, values = self._rows(np.array([one.row for one in kept], np.int64))
        agents = np.array([one.agent for one in kept], np.int64)
        propensity = np.array([one.propensity for one in kept], np.float32)
        return Signals(
            names=tuple(self._names),
            documents=documents,
            scores=np.where(documents >= 0, values[:, :, 0], -np.inf).astype(np.float32),
            stage=values[:, :, 1],
            features=values[:, :, 3:],
            listed=values[:, :, 2] == 1.0,
            quoted=np.array([one.quoted for one in kept], np.int64),
            propensity=propensity,
            channel=np.array([one.channel for one in kept], np.int64),
            judged_good=np.array([one.good for one in kept], bool),
            opened=_columns([one.opened for one in kept]),
            wrong=_columns([one.wrong for one in kept]),
            found_next=_columns([self._found_next(one) for one in kept]),
            agents=agents,
            questions=np.unique([one.question for one in kept], return_inverse=True)[1],
            weights=_weights(agents, propensity, share=caps.agent_share),
            served=np.array([one.served for one in kept], np.int64),
            rankers=self._rankers,
            agent_names=tuple(self._agents),
            left_out=dict(sorted(self.left_out.items())),
            window=self._times,
        )

    def _within(self, caps: Caps, seed: int) -> list[_Acts]:
        """Return the answers within all caps, in an order that the seed gives."""

        def drawn(item: tuple[str, _Acts]) -> bytes:
            return blake2b(f"{seed}:{item[0]}".encode(), digest_size=16).digest()

        counts: Counter[object] = Counter()
        kept: list[_Acts] = []
        for _, acts in sorted(self._answers.items(), key=drawn):
            limits: tuple[tuple[object, int, str], ...] = (
                ((acts.agent, acts.day), caps.per_agent_day, "over the cap of an agent's day"),
                (acts.agent, caps.per_agent, "over the cap of an agent"),
                (
                    ("conversation", acts.conversation),
                    caps.per_conversation,
                    "over the cap of a conversation",
                ),
                (("question", acts.question), caps.per_question, "over the cap of a question"),
            )
            over = next((reason for key, most, reason in limits if counts[key] >= most), None)
            if over is not None:
                self.left_out[over] += 1
                continue
            counts.update(key for key, *_ in limits)
            kept.append(acts)
        return kept

    def _found_next(self, one: _Acts) -> int:
        """Return the column, as a bit, of the document that the answer to the question in other words was
        accepted for (query chains: Radlinski and Joachims, KDD 2005)."""
        following = self._answers.get(one.next_answer or "")
        if following is None or following.agent != one.agent or not following.good:
            return 0
        accepted = self._documents[following.row // _BLOCK][following.row % _BLOCK, following.quoted]
        found = np.flatnonzero(self._documents[one.row // _BLOCK][one.row % _BLOCK] == accepted)
        return 1 << int(found[0]) if len(found) and int(found[0]) != one.quoted else 0


def sent_as_shown(event: FeedbackEvent) -> bool | None:
    """Return whether the text went out nearly as it was shown; None where an edit says nothing of it."""
    if event.edit is None:
        return None
    share = event.edit.distance / max(1, event.edit.words)
    if share <= _AS_IT_STOOD and not event.edit.changed_facts:
        return True
    return False if share >= _REWRITTEN else None


def _fingerprint(kept: list[ShownDocument]) -> int:
    """Return what the same question asked again has in common: its candidates and their raw features."""
    hashed = blake2b(digest_size=7)
    for one in sorted(kept, key=lambda one: one.document_id):
        features = [one.features.get(name) for name in INDEX_FEATURES]
        hashed.update(f"{one.document_id}{features}".encode())
    return int.from_bytes(hashed.digest())


def _columns(bits: list[int]) -> Flags:
    columns = np.arange(MOST_CANDIDATES)
    return (np.array(bits, np.int64)[:, None] >> columns & 1).astype(bool)


def _weights(agents: Numbers, propensity: Floats, *, share: float) -> Floats:
    """Return weights with mean 1: the inverse propensity, clipped at 10 and self-normalised (Swaminathan and
    Joachims, NeurIPS 2015), with no agent above ``share`` of the sum where there are enough agents."""
    if not len(agents):
        return np.empty(0, np.float32)
    weights = np.minimum(1.0 / propensity.astype(np.float64), 10.0)
    by_agent = np.bincount(agents, weights)
    most = share * weights.sum()
    weights *= np.minimum(1.0, most / np.maximum(by_agent, 1e-9))[agents]
    return (weights / weights.mean()).astype(np.float32)
