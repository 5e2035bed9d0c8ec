"""Measures which approved answers are served and offered to the paraphrases of their questions and to their
look-alikes.

    python -m tools.measure_approved evaluation/approved/tuning_pharmacy.jsonl \
        --others evaluation/pharmacy.jsonl

It embeds by the packaged model, or by that of the folder ``--model``, in this process, and matches with all
answers of the file live, as the service does. ``--others`` are questions on other documents. ``--show``
prints the misses; do not use it on a set that must stay blind.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from assistant.answering.approved import ApprovedAnswers, LiveAnswer, Match, Near, NoMatch
from assistant.answering.rank import CosineScale
from assistant.domain.desk import ApprovedAnswer, ItemState
from assistant.model_server.artifact import (
    ModelArtifact,
    ensure_artifact,
    ensure_graph,
    pooling_of,
    read_tokenizer,
)
from assistant.model_server.embedding import PassageRunner, load_graph, of_unit_length
from assistant.model_server.weights import locate_weights
from assistant.settings.process import ModelServerSettings
from assistant.settings.tenant import load_tenants
from assistant.text.language import language

Embed = Callable[[str], list[float]]
Item = dict[str, Any]
_KINDS = ("paraphrases", "lookalikes")
_TODAY = date(2026, 11, 21)
_EXPIRES = date(2099, 1, 1)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came of one kind of question: paraphrases of approved questions, their look-alikes, others."""

    served: int
    offered: int
    wrongly_served: int
    """With another item's answer, or with any where none is right."""
    wrongly_offered: int
    reasons: Counter[str]
    """Of those that got none."""

    def line(self, name: str) -> str:
        counts = {
            "served": self.served,
            "offered": self.offered,
            "wrongly served": self.wrongly_served,
            "wrongly offered": self.wrongly_offered,
        }
        asked = sum(counts.values()) + self.reasons.total()
        told = ", ".join(f"{what} {count} ({100 * count / asked:.1f} %)" for what, count in counts.items())
        return f"{name:<12}{asked} asked: {told}; none: {dict(self.reasons.most_common())}"


def embedder(folder: Path, model: Path | None = None) -> tuple[Embed, ModelArtifact]:
    """Return a function that embeds a text by a model's folder or by the packaged model, and its artifact.

    Vectors have unit length, shape (dimensions,).
    """
    settings = ModelServerSettings(port=0, task="embedding", artifacts_dir=folder, path=model)
    weights, artifact = locate_weights(settings), ensure_artifact(settings)
    graph = load_graph(
        ensure_graph(weights, settings=settings, digest=artifact.digest), threads=1, precision="float32"
    )
    runner = PassageRunner(graph, pooling=pooling_of(weights))
    tokenizer = read_tokenizer(weights.path / "tokenizer.json")

    def embed(text: str) -> list[float]:
        vector = runner.embed(tokenizer.encode(text).ids[:256])
        return [float(value) for value in of_unit_length(vector[None])[0]]

    return embed, artifact


def read_items(path: Path) -> list[Item]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def live_answer(item: Item, *, embed: Embed, more: Sequence[str] = ()) -> LiveAnswer:
    """Return an item as the desk holds it; ``more``: wordings beside its question."""
    wordings = (item["question"], *more)
    answer = ApprovedAnswer(
        questions=wordings,
        vectors=tuple(tuple(embed(wording)) for wording in wordings),
        text=item["text"],
        owner="measured",
        expires_on=_EXPIRES,
        state=ItemState.LIVE,
        proposed_by="measured",
    )
    return LiveAnswer(item["approved_id"], 1, datetime(2026, 11, 21, tzinfo=UTC), answer)


def outcomes(
    asked: Iterable[tuple[str, str | None]], *, approved: ApprovedAnswers, embed: Embed, show: bool = False
) -> Outcomes:
    """Return what comes of questions, each with the id of its answer; None: no answer is right."""
    counts: Counter[tuple[type[Match | Near | NoMatch], bool]] = Counter()
    reasons: Counter[str] = Counter()
    for question, right in asked:
        found = approved.match(question, embed(question), labels=frozenset(), today=_TODAY)
        if isinstance(found, NoMatch):
            reasons[found.reason] += 1
        is_right = (found.live.item_id if found.live and not isinstance(found, NoMatch) else None) == right
        counts[type(found), is_right] += 1
        if show and not is_right:
            nearest = found.live.answer.questions[0] if found.live else ""
            what = found.reason if isinstance(found, NoMatch) else type(found).__name__
            print(f"{question} | {nearest} | {what} {found.cosine:.2f}")
    return Outcomes(
        counts[Match, True], counts[Near, True], counts[Match, False], counts[Near, False], reasons
    )


def asked_of(items: Sequence[Item], kind: str, *, every: slice = slice(None)) -> list[tuple[str, str | None]]:
    """Return the paraphrases or look-alikes; no answer is right for a look-alike."""
    is_paraphrase = kind == "paraphrases"
    return [
        (question, item["approved_id"] if is_paraphrase else None)
        for item in items
        for question in item[kind][every]
    ]


def others(path: Path, items: Sequence[Item]) -> list[tuple[str, str | None]]:
    """Return the evaluation questions that no document of the items answers."""
    used = {document for item in items for document in item["document_ids"]}
    return [(row["question"], None) for row in read_items(path) if used.isdisjoint(row["documents"])]


def cpu_per_match_us(approved: ApprovedAnswers, questions: Sequence[str], *, embed: Embed) -> float:
    """Return the CPU time of one match, in microseconds, over questions asked once each."""
    vectors = [embed(question) for question in questions]
    began_s = time.process_time()
    for question, vector in zip(questions, vectors, strict=True):
        approved.match(question, vector, labels=frozenset(), today=_TODAY)
    return (time.process_time() - began_s) / len(questions) * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tenant", default="pharmacy")
    parser.add_argument("--others", type=Path, metavar="FILE", help="evaluation questions of all documents")
    parser.add_argument("--wordings", action="store_true")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--model", type=Path, metavar="DIR", help="folder of another embedding model")
    options = parser.parse_args()
    tenant = load_tenants(Path("tenants")).one(options.tenant)
    items = read_items(options.file)
    with tempfile.TemporaryDirectory() as folder:
        embed, artifact = embedder(Path(folder), options.model)
        embed, embedding = lru_cache(maxsize=None)(embed), tenant.embedding
        if options.model is not None:
            scale = {name: getattr(artifact, name) for name in ("cosine_unrelated", "cosine_related")}
            embedding = embedding.model_copy(update={"model": artifact.model, **scale})
        measured = partial(outcomes, embed=embed, show=options.show)
        answers = partial(
            ApprovedAnswers.of, language=language(tenant.language), scale=CosineScale.of(embedding)
        )
        approved = answers([live_answer(item, embed=embed) for item in items])
        asked = {kind: asked_of(items, kind) for kind in _KINDS}
        if options.others is not None:
            asked["others"] = others(options.others, items)
        print(f"{len(items)} approved answers live, one wording each")
        for kind, questions in asked.items():
            print(measured(questions, approved=approved).line(kind))
        texts = [question for kind in _KINDS for question, _ in asked[kind]]
        print(f"CPU of a match: {cpu_per_match_us(approved, texts, embed=embed):.0f} µs, of near questions")
        if options.wordings:
            print("every second paraphrase is a wording, and the others are asked:")
            approved = answers(
                [live_answer(item, embed=embed, more=item["paraphrases"][::2]) for item in items]
            )
            asked["paraphrases"] = asked_of(items, "paraphrases", every=slice(1, None, 2))
            for kind, questions in asked.items():
                print(measured(questions, approved=approved).line(kind))
    return 0


if __name__ == "__main__":
    sys.exit(main())
