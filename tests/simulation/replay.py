"""Asks each question once on the real answer path, and ranks its candidates again under other weights.

The features are those of the product: ``PrepareAnswer`` searched, read and scored. ``Replay`` repeats its two
rankings, which are sums, for a tenant with one source of documents and no catalogue; ``differences`` counts
the questions for which it does not give the product's order.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from assistant.answering import evidence as evidence_module
from assistant.answering import rank as rank_module
from assistant.answering.evidence import DOCUMENTS_EMBEDDED, DOCUMENTS_READ, Evidence
from assistant.answering.prepare import AnswerRequest, PrepareAnswer, PreparedAnswer
from assistant.answering.rank import INDEX_FEATURES, Kind, Weights, shipped_weights
from assistant.answering.record import KEPT_CANDIDATES
from assistant.answering.services import TenantServices
from assistant.domain.clock import Deadline
from assistant.domain.documents import StoredDocument
from assistant.domain.identity import Identity, Role
from assistant.evaluation.judging import Judge, Observed, Observer
from assistant.evaluation.questions import EvaluationQuestion
from assistant.tuning.gate import ProtectedQuestion, ProtectedSet, protected_question
from tests.simulation.questions import SimulatedQuestion

READ_TO_REPLAY = 24
"""Documents whose units are scored and embedded for a replay; serving reads the best ``DOCUMENTS_READ``.
A document beyond them that other weights bring among the best is ranked by the index alone:
``Ranking.is_whole``."""
SOURCES_SHOWN = 5
"""Sources of an answer that an agent sees."""
_AT_ONCE = 2
_NO_DEVIATION = 1e-9
_FINDS = ("evidence", "search", "rank", "vocabulary", "reading", "choose", "gate")
"""Modules of the answer path that decide what is found: a change of them asks again."""
_WEIGHS: tuple[Kind, ...] = ("ranker", "units", "unit_vectors", "reranker", "gate")
"""Weights that decide it."""
_COMPARED_DECIMALS = 4
"""The product compares scores to so many decimals."""
_PATIENCE_S = 60.0
CANDIDATES_KEPT = 40
"""Some 190 are found for a question; those below come first only by weights that no learner may give."""
UNIT_FEATURES = (
    "best_unit",
    "best_units",
    "mass",
    "coverage",
    "title_number",
    "title_other_number",
    "unit_cosine",
    "unit_cosines",
    "unit_peak",
    "few_terms",
)
"""What ``rank.document_features`` gives beside the score by the index."""
_OF_VECTORS = ("unit_cosine", "unit_cosines", "unit_peak")
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the product knew of one question's candidates."""

    question: SimulatedQuestion
    certainty: str | None
    """None: the knowledge base had no answer."""
    document_ids: tuple[str, ...]
    """The best ``CANDIDATES_KEPT`` under the shipped weights."""
    index: tuple[tuple[float | None, ...], ...]
    """One row a candidate, one column for each of ``INDEX_FEATURES``; None where no leg gave it."""
    scales: tuple[tuple[float, float, float], ...]
    """Lowest value, mean and deviation of each of ``INDEX_FEATURES`` over all candidates, kept or not."""
    units: tuple[tuple[float, ...] | None, ...]
    """One column for each of ``UNIT_FEATURES``; None where the document was not read."""
    served: tuple[str, ...]
    """The product's own order of the best, under the shipped weights."""


_CANDIDATES = TypeAdapter(Candidates)


@dataclass(frozen=True, slots=True)
class Ranking:
    """One question's candidates under some weights."""

    document_ids: tuple[str, ...]
    """The best ``KEPT_CANDIDATES``."""
    scores: tuple[float, ...]
    features: tuple[Mapping[str, float], ...]
    """Raw values, as a record has them."""
    is_whole: bool

    @property
    def shown(self) -> tuple[str, ...]:
        """Documents that an agent can see: the quoted one first."""
        return self.document_ids[:SOURCES_SHOWN]


class Replay:
    """One question, ready to be ranked under many weights."""

    def __init__(self, found: Candidates) -> None:
        self.found = found
        self._raw = [
            {key: value for key, value in zip(INDEX_FEATURES, row, strict=True) if value is not None}
            for row in found.index
        ]
        lowest, mean, deviation = np.array(found.scales).T
        raw = np.array([[np.nan if value is None else value for value in row] for row in found.index])
        filled = np.where(np.isnan(raw), lowest, raw)
        self._standard: Array = np.where(
            deviation > _NO_DEVIATION, (filled - mean) / np.maximum(deviation, 1e-12), 0.0
        )

    def standard(self) -> Array:
        """Return the standardised index features, shape (candidates, ``INDEX_FEATURES``)."""
        return self._standard

    def rank(self, weights: Weights) -> Ranking:
        """Return the order that serving gives under a ranker's weights and the shipped reranker's."""
        columns = np.array([weights.features.get(name, 0.0) for name in INDEX_FEATURES])
        offsets = np.array([weights.documents.get(name, 0.0) for name in self.found.document_ids])
        scores: Array = self._standard @ columns + weights.bias + offsets
        order = self._sorted(scores, range(len(scores)))
        read = [at for at in order[:DOCUMENTS_READ] if self.found.units[at] is not None]
        rest = [at for at in order if at not in read]
        if read and rest:  # equal to four decimals, the first of the rest may be ahead
            scores[read] += max(0.0, scores[rest[0]] - scores[read[-1]])
        again, features = self._again(read, scores)
        embedded = self._sorted(self._by_words(features, scores), read)[:DOCUMENTS_EMBEDDED]
        best = self._sorted(again, embedded)
        rest = [at for at in (*read, *rest) if at not in embedded]
        if best and rest:
            last, first = again[best[-1]], scores[rest[0]]
            again[rest] = last - (first - scores[rest]) - 1.0
        whole = (best + rest)[:KEPT_CANDIDATES]
        return Ranking(
            document_ids=tuple(self.found.document_ids[at] for at in whole),
            scores=tuple(float(again[at]) for at in whole),
            features=tuple({**self._raw[at], **(features[at] if at in embedded else {})} for at in whole),
            is_whole=len(read) == min(DOCUMENTS_READ, len(order)),
        )

    def _again(self, read: Sequence[int], scores: Array) -> tuple[Array, dict[int, dict[str, float]]]:
        reranker = shipped_weights("reranker")
        again, features = scores.copy(), dict[int, dict[str, float]]()
        for at in read:
            units = self.found.units[at] or ()
            features[at] = {"index": float(scores[at]), **dict(zip(UNIT_FEATURES, units, strict=True))}
            again[at] = reranker.score(features[at])
        return again, features

    def _by_words(self, features: Mapping[int, Mapping[str, float]], scores: Array) -> Array:
        """Return the scores of the documents that were read as they are before their units have vectors."""
        reranker, by_words = shipped_weights("reranker"), scores.copy()
        for at, values in features.items():
            by_words[at] = reranker.score({name: values[name] for name in values if name not in _OF_VECTORS})
        return by_words

    def _sorted(self, scores: Array, among: Iterable[int]) -> list[int]:
        """Return the candidates as ``rank.best_first`` orders them."""
        names = self.found.document_ids
        return sorted(among, key=lambda at: (-round(float(scores[at]), _COMPARED_DECIMALS), names[at]))


def is_right_first(replay: Replay, weights: Weights) -> bool:
    """Say whether a document that answers stands first under the weights."""
    return replay.rank(weights).document_ids[0] in replay.found.question.right


def differences(replays: Sequence[Replay]) -> int:
    """Count the questions whose replay under the shipped weights is not the product's order."""
    shipped = shipped_weights("ranker")
    return sum(one.rank(shipped).shown != one.found.served for one in replays)


# --- asking ---------------------------------------------------------------------------------------------


@contextmanager
def reading(documents: int) -> Iterator[None]:
    """Have the answer path score and embed the units of more documents than it serves from."""
    with patch.multiple(evidence_module, DOCUMENTS_READ=documents, DOCUMENTS_EMBEDDED=documents):
        yield


class Asking:
    """Asks simulated questions on one tenant's answer path, without the time limits of people who wait."""

    def __init__(self, services: TenantServices) -> None:
        tenant = services.tenant
        limits = tenant.limits.model_copy(
            update={"search_timeout_s": _PATIENCE_S, "embedding_timeout_s": _PATIENCE_S}
        )
        model = replace(services.writer.model, writes_answers=False)
        self._services = replace(
            services,
            writer=replace(services.writer, model=model),
            tenant=tenant.model_copy(update={"limits": limits}),
        )
        self._prepare = PrepareAnswer(self._services)
        self._identity = Identity(tenant.name, "simulation", frozenset({Role.AGENT}), frozenset())

    async def documents(self, names: Iterable[str]) -> list[StoredDocument]:
        """Return the tenant's documents by id. Raises AssistantError."""
        return list((await Observer(self._services).documents(names)).values())

    async def ask_all(
        self, questions: Sequence[SimulatedQuestion], *, say: Callable[[str], None]
    ) -> list[Candidates]:
        """Return the candidates of each question that the product takes for one. Raises AssistantError.

        Asks twice: as served, and with the units of more documents. The number of documents is a constant
        of the product, so that the two must not run at the same time.
        """
        with patch.object(rank_module, "UNIT_VECTORS_LIMIT_S", _PATIENCE_S):
            served = await self._all(questions, say)
            with reading(READ_TO_REPLAY):
                found = await self._all(questions, say)
        return [
            replace(one, served=first.document_ids[:SOURCES_SHOWN], certainty=first.certainty)
            for first, one in zip(served, found, strict=True)
            if first is not None and one is not None
        ]

    async def _all(
        self, questions: Sequence[SimulatedQuestion], say: Callable[[str], None]
    ) -> list[Candidates | None]:
        slots, done = asyncio.Semaphore(_AT_ONCE), 0

        async def one(question: SimulatedQuestion) -> Candidates | None:
            nonlocal done
            async with slots:
                found = await self._candidates(question)
            done += 1
            if done % 500 == 0:
                say(f"asked {done} of {len(questions)}")
            return found

        return await asyncio.gather(*(one(question) for question in questions))

    async def protected(self, questions: Sequence[EvaluationQuestion]) -> ProtectedSet:
        """Return the committed questions as the gate protects them. Raises AssistantError."""
        observer = Observer(self._services)
        judge, found = Judge(observer), list[ProtectedQuestion | None]()
        for question in questions:
            if question.after is None:
                observed = Observed(question, None, await self._prepared(question.question), {}, ())
                found.append(protected_question(observed, await judge.result(observed)))
        return ProtectedSet(
            tenant=self._services.tenant.name,
            questions_sha256=hashlib.sha256(repr(questions).encode()).hexdigest(),
            index_version=(await self._services.search.info()).index_version,
            ranker=shipped_weights("ranker").sha256,
            left_out=len(questions) - sum(one is not None for one in found),
            questions=tuple(one for one in found if one is not None),
        )

    async def _candidates(self, question: SimulatedQuestion) -> Candidates | None:
        parts = (await self._prepared(question.text)).found.evidence
        return _candidates(question, parts[0]) if len(parts) == 1 and parts[0].ranked else None

    async def _prepared(self, question: str) -> PreparedAnswer:
        prepared = await self._prepare.prepare(
            AnswerRequest(question=question),
            identity=self._identity,
            deadline=Deadline.after(2 * _PATIENCE_S, clock=self._services.clock),
        )
        prepared.scope.steps.root.end()
        assert not prepared.scope.degraded, f"answered without {prepared.scope.degraded}: {question}"
        return prepared


def _candidates(question: SimulatedQuestion, found: Evidence) -> Candidates:
    names = tuple(one.document_id for one in found.ranked)
    features = {one.document_id: one.features for one in found.ranked}
    kept = names[:CANDIDATES_KEPT]
    return Candidates(
        question=question,
        certainty=None if found.judgement.certainty is None else found.judgement.certainty.value,
        document_ids=kept,
        index=tuple(tuple(features[name].get(key) for key in INDEX_FEATURES) for name in kept),
        scales=tuple(_scale([features[name].get(key) for name in names]) for key in INDEX_FEATURES),
        units=tuple(
            tuple(features[name][key] for key in UNIT_FEATURES) if "best_unit" in features[name] else None
            for name in kept
        ),
        served=kept,
    )


def _scale(values: Sequence[float | None]) -> tuple[float, float, float]:
    """Return lowest value, mean and deviation as ``rank.standardised`` takes them; 0 without values."""
    present = [value for value in values if value is not None]
    if not present:
        return 0.0, 0.0, 0.0
    filled = np.array([min(present) if value is None else value for value in values])
    return min(present), float(filled.mean()), float(filled.std())


# --- keeping --------------------------------------------------------------------------------------------


def key_of(questions: Sequence[SimulatedQuestion], index_version: str) -> str:
    """Return what kept candidates are good for: the questions, the index, the code and the weights that find
    them."""
    folder = Path(evidence_module.__file__).parent
    code = [(folder / f"{name}.py").read_text(encoding="utf-8") for name in _FINDS]
    parts = [one.text for one in questions] + code + [shipped_weights(kind).sha256 for kind in _WEIGHS]
    return hashlib.sha256("\n".join([*parts, index_version, str(READ_TO_REPLAY)]).encode()).hexdigest()


def write(path: Path, found: Sequence[Candidates], *, key: str) -> None:
    """Keep candidates, one JSON object a line, packed; the first line is the key."""
    lines = [json.dumps({"key": key}).encode(), *map(_CANDIDATES.dump_json, found)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(b"\n".join(lines), mtime=0))


def read(path: Path, *, key: str | None = None) -> list[Candidates] | None:
    """Return kept candidates; None where there are none, or of another key."""
    if not path.is_file():
        return None
    head, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    if key is not None and json.loads(head)["key"] != key:
        return None
    return [_CANDIDATES.validate_json(line) for line in lines]
