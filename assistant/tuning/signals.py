"""Gathers feedback events into the rows that ranking learns from: one for each answer that somebody acted on.

Events stream through ``SignalCollector``; no event is kept. An answer's candidates are stored once, and all
acts on it are joined, in whatever order they arrive, and however often. The feedback store has left out what
was withdrawn or erased.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from assistant.answering.rank import INDEX_FEATURES, Weights
from assistant.domain.answers import VerdictLabel
from assistant.domain.feedback import FeedbackEvent, FeedbackKind, ShownDocument

MOST_CANDIDATES = 20
_AS_IT_STOOD = 0.15
"""Share of words that an edit may change for the text to count as sent unchanged."""
_REWRITTEN = 0.6
"""Share of words from which on a sent text counts as another one."""
_OF_THE_TEXT = frozenset({"outdated", "incomplete"})
"""Reasons of a bad verdict that say nothing against the choice of the document."""

Floats = NDArray[np.float64]
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
    documents: Numbers
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
    shifts: Numbers
    """(n,) Equal for the answers of one agent's day."""
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

    def __len__(self) -> int:
        return len(self.quoted)


@dataclass(slots=True)
class _Answer:
    """One answer's candidates, and what was done with it so far."""

    documents: NDArray[np.int32]
    """(20,)"""
    values: NDArray[np.float32]
    """(20, 9) Score, first-stage score, whether it was listed, index features."""
    quoted: int
    propensity: float
    """Probability that serving put the quoted document where it was."""
    served: int
    agent: int
    conversation: str
    day: int
    question: int
    channel: int = -1
    good: bool = False
    judged_at: datetime | None = None
    marked_at: datetime | None = None
    opened: frozenset[int] = frozenset()
    """Columns."""
    wrong: frozenset[int] = frozenset()
    next_answer: str = ""

    def judge(self, channel: Channel, at: datetime, *, good: bool) -> None:
        """Keep the judgement of the most explicit channel, and of it the latest."""
        number = CHANNELS.index(channel)
        if self.judged_at is None or (-number, at) >= (-self.channel, self.judged_at):
            self.channel, self.judged_at, self.good = number, at, good

    def columns(self, documents: Collection[int]) -> frozenset[int]:
        """Return where documents stand among the candidates."""
        return frozenset(np.flatnonzero(np.isin(self.documents, list(documents))).tolist())


class SignalCollector:
    """Takes events one at a time, in any order. ``signals`` applies the caps and returns the arrays."""

    def __init__(self, *, rankers: Mapping[str, Weights]) -> None:
        """``rankers``: known ranker weights by SHA-256; an answer that others served cannot be replayed."""
        self._rankers = tuple(rankers.values())
        self._ranker_of = {sha256: number for number, sha256 in enumerate(rankers)}
        self._answers: dict[str, _Answer | None] = {}
        """None: nothing can be learned from it."""
        self._names: dict[str, int] = {}
        self._agents: dict[str, int] = {}
        self._left_out: Counter[str] = Counter()

    def add(self, event: FeedbackEvent) -> None:
        """Take one event; the same one again changes nothing."""
        if event.answer_id not in self._answers:
            self._answers[event.answer_id] = self._begin(event)
        answer = self._answers[event.answer_id]
        if answer is not None:
            self._act(answer, event)

    def _begin(self, event: FeedbackEvent) -> _Answer | None:
        served = self._ranker_of.get(event.weights.get("ranker", ""))
        shown = event.documents
        quoted = next((at for at, one in enumerate(shown) if one.is_quoted), None)
        if event.kind is FeedbackKind.UNANSWERED:
            self._left_out["unanswered"] += 1
        elif quoted is None or len(shown) < 2:
            self._left_out["no choice of documents"] += 1
        elif served is None:
            self._left_out["served by unknown weights"] += 1
        else:
            documents = np.full(MOST_CANDIDATES, -1, np.int32)
            documents[: len(shown)] = [
                self._names.setdefault(candidate.document_id, len(self._names)) for candidate in shown
            ]
            values = np.full((MOST_CANDIDATES, 3 + len(INDEX_FEATURES)), np.nan, np.float32)
            values[: len(shown)] = [_values(candidate) for candidate in shown]
            return _Answer(
                documents=documents,
                values=values,
                quoted=quoted,
                propensity=shown[quoted].propensity,
                served=served,
                agent=self._agents.setdefault(event.agent, len(self._agents)),
                conversation=event.conversation,
                day=event.asked_at.date().toordinal(),
                question=_fingerprint(shown),
            )
        return None

    def _act(self, answer: _Answer, event: FeedbackEvent) -> None:
        match event.kind:
            case FeedbackKind.VERDICT:
                self._mark(answer, event)
            case FeedbackKind.SENT:
                good = sent_as_shown(event)
                if good is not None:
                    answer.judge("sent", event.at, good=good)
            case FeedbackKind.POSSIBLY_TAKEN | FeedbackKind.POSSIBLY_PASSED_OVER:
                answer.judge("possibly", event.at, good=event.kind is FeedbackKind.POSSIBLY_TAKEN)
            case FeedbackKind.REFORMULATED:
                answer.judge("reformulated", event.at, good=False)
                answer.next_answer = event.next_answer_id or ""
            case FeedbackKind.OPENED_SOURCE:
                opened = answer.columns({self._names.get(event.opened or "", -2)})
                answer.opened |= opened - {answer.quoted}
            case FeedbackKind.UNANSWERED | FeedbackKind.OFFERED_USED:
                self._left_out[event.kind.value] += 1

    def _mark(self, answer: _Answer, event: FeedbackEvent) -> None:
        """Take a verdict, and the documents that the latest one marked as wrongly cited."""
        if not _OF_THE_TEXT.issuperset(event.reasons or ("",)):
            answer.judge("verdict", event.at, good=event.label is VerdictLabel.GOOD)
        if answer.marked_at is None or event.at >= answer.marked_at:
            wrong = {self._names.get(name, -2) for name in event.wrong_documents}
            answer.wrong, answer.marked_at = answer.columns(wrong), event.at

    def signals(self, *, seed: int, caps: Caps) -> Signals:
        """Return what counts. The same events in any order and the same seed give the same arrays."""
        left_out = Counter(self._left_out)
        kept = self._within(caps, seed, left_out)
        documents = np.array([row.documents for row in kept], np.int64).reshape(-1, MOST_CANDIDATES)
        values = np.array([row.values for row in kept], np.float64).reshape(
            -1, MOST_CANDIDATES, 3 + len(INDEX_FEATURES)
        )
        agents = np.array([row.agent for row in kept], np.int64)
        return Signals(
            names=tuple(self._names),
            documents=documents,
            scores=np.where(documents >= 0, values[:, :, 0], -np.inf),
            stage=values[:, :, 1],
            features=values[:, :, 3:],
            listed=values[:, :, 2] == 1.0,
            quoted=np.array([row.quoted for row in kept], np.int64),
            channel=np.array([row.channel for row in kept], np.int64),
            judged_good=np.array([row.good for row in kept], bool),
            opened=_flags([row.opened for row in kept]),
            wrong=_flags([row.wrong for row in kept]),
            found_next=_flags([self._found_next(row) for row in kept]),
            agents=agents,
            shifts=np.unique([f"{row.agent} {row.day}" for row in kept], return_inverse=True)[1],
            questions=np.unique([row.question for row in kept], return_inverse=True)[1],
            weights=_weights(agents, np.array([row.propensity for row in kept]), share=caps.agent_share),
            served=np.array([row.served for row in kept], np.int64),
            rankers=self._rankers,
            agent_names=tuple(self._agents),
            left_out=dict(sorted(left_out.items())),
        )

    def _within(self, caps: Caps, seed: int, left_out: Counter[str]) -> list[_Answer]:
        """Return the answers within all caps, in an order that the seed gives."""

        counts: Counter[object] = Counter()
        kept: list[_Answer] = []
        for answer_id in sorted(self._answers, key=lambda name: drawn(seed, name)):
            answer = self._answers[answer_id]
            if answer is None:
                continue
            limits: Mapping[tuple[str, object], int] = {
                ("an agent's day", (answer.agent, answer.day)): caps.per_agent_day,
                ("an agent", answer.agent): caps.per_agent,
                ("a conversation", answer.conversation): caps.per_conversation,
                ("a question", answer.question): caps.per_question,
            }
            over = next((what for (what, of), most in limits.items() if counts[what, of] >= most), None)
            if over is not None:
                left_out[f"over the cap of {over}"] += 1
                continue
            counts.update(limits.keys())
            kept.append(answer)
        return kept

    def _found_next(self, answer: _Answer) -> frozenset[int]:
        """Return the column of the document that the answer to the question in other words was accepted for
        (query chains: Radlinski and Joachims, KDD 2005)."""
        following = self._answers.get(answer.next_answer)
        if following is None or following.agent != answer.agent or not following.good:
            return frozenset()
        return answer.columns({int(following.documents[following.quoted])}) - {answer.quoted}


def drawn(seed: int, answer_id: str) -> bytes:
    """Return what orders answers by chance: the same for the same seed."""
    return blake2b(f"{seed}:{answer_id}".encode(), digest_size=16).digest()


def sent_as_shown(event: FeedbackEvent) -> bool | None:
    """Return whether the text went out nearly as it was shown; None where an edit says nothing of it."""
    if event.edit is None:
        return None
    share = event.edit.distance / max(1, event.edit.words)
    if share <= _AS_IT_STOOD and not event.edit.changed_facts:
        return True
    return False if share >= _REWRITTEN else None


def _values(shown: ShownDocument) -> list[float]:
    names = ("index", *INDEX_FEATURES)
    stage, *features = (shown.features.get(name, np.nan) for name in names)
    return [shown.score, stage, float(shown.is_listed), *features]


def _fingerprint(shown: Sequence[ShownDocument]) -> int:
    """Return what the same question asked again has in common: its candidates and their raw features."""
    hashed = blake2b(digest_size=7)
    for candidate in sorted(shown, key=lambda one: one.document_id):
        features = [candidate.features.get(name) for name in INDEX_FEATURES]
        hashed.update(f"{candidate.document_id}{features}".encode())
    return int.from_bytes(hashed.digest())


def _flags(columns: Sequence[frozenset[int]]) -> Flags:
    flags = np.zeros((len(columns), MOST_CANDIDATES), bool)
    for row, marked in enumerate(columns):
        flags[row, list(marked)] = True
    return flags


def _weights(agents: Numbers, propensity: Floats, *, share: float) -> Floats:
    """Return weights with mean 1: the inverse propensity, clipped at 10 and self-normalised (Swaminathan and
    Joachims, NeurIPS 2015), with no agent above ``share`` of the sum where there are enough agents."""
    if not len(agents):
        return np.empty(0)
    weights = np.minimum(1.0 / propensity, 10.0)
    by_agent = np.bincount(agents, weights)
    weights *= np.minimum(1.0, share * weights.sum() / np.maximum(by_agent, 1e-9))[agents]
    return weights / weights.mean()
