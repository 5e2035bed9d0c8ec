"""Measures whether approved answers reach the paraphrases of their questions, and none of their look-alikes.

    python -m tools.measure_approved evaluation/approved/tuning_pharmacy.jsonl --tenant pharmacy

It embeds by the packaged model, or by that of the folder ``--model``, in this process, and matches with all
answers of the file live, as the service does. ``--show`` prints the misses; do not use it on a set that must
stay blind.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from assistant.answering.approved import ApprovedAnswers, LiveAnswer, Match, NoMatch
from assistant.answering.retrieve import CosineScale
from assistant.answering.understand import Vocabulary
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

Embed = Callable[[str], list[float]]
Compile = Callable[[Sequence[LiveAnswer]], ApprovedAnswers]
_TODAY = date(2026, 11, 21)
_EXPIRES = date(2099, 1, 1)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Matches of one kind of question: paraphrases of approved questions, or their look-alikes."""

    asked: int
    own: int
    """Got the answer of their own item."""
    others: int
    """Got another item's."""
    reasons: Counter[str]
    """Of those that got none."""

    def line(self, name: str) -> str:
        share = 100 * (self.own + self.others) / self.asked
        return (
            f"{name:<12}{self.own} of {self.asked} got their item's answer, {self.others} another's "
            f"({share:.1f} % any); none: {dict(self.reasons.most_common())}"
        )


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


def read_items(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def live_answer(item: dict[str, Any], *, embed: Embed, more: Sequence[str] = ()) -> LiveAnswer:
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
    live = LiveAnswer(item["approved_id"], 1, datetime(2026, 11, 21, tzinfo=UTC), answer)
    return replace(live, text_vector=tuple(embed(live.embedded_text)))


def outcomes(
    items: Sequence[dict[str, Any]], kind: str, *, approved: ApprovedAnswers, embed: Embed, show: bool
) -> Outcomes:
    asked = own = others = 0
    reasons: Counter[str] = Counter()
    for item in items:
        for question in item[kind]:
            found = approved.match(question, embed(question), labels=frozenset(), today=_TODAY)
            asked += 1
            is_own = isinstance(found, Match) and found.live.item_id == item["approved_id"]
            own += is_own
            others += isinstance(found, Match) and not is_own
            if isinstance(found, NoMatch):
                reasons[found.reason] += 1
            if show and (isinstance(found, Match) and is_own) != (kind == "paraphrases"):
                print(f"{kind}: {question} | {item['question']} | {_told(found)}")
    return Outcomes(asked, own, others, reasons)


def with_wordings(items: Sequence[dict[str, Any]], *, compile_: Compile, embed: Embed) -> dict[str, Outcomes]:
    """Return the outcomes where each item has its paraphrases as wordings. A paraphrase that is asked is not
    among them."""
    live = [live_answer(item, embed=embed, more=item["paraphrases"]) for item in items]
    all_live = compile_(live)
    found = {"lookalikes": outcomes(items, "lookalikes", approved=all_live, embed=embed, show=False)}
    asked = own = others = 0
    for at, item in enumerate(items):
        for question in item["paraphrases"]:
            rest = [one for one in item["paraphrases"] if one != question]
            without = compile_([*live[:at], live_answer(item, embed=embed, more=rest), *live[at + 1 :]])
            one = outcomes(
                [{**item, "asked": [question]}], "asked", approved=without, embed=embed, show=False
            )
            asked, own, others = asked + 1, own + one.own, others + one.others
    return {"paraphrases": Outcomes(asked, own, others, Counter())} | found


def _told(found: Match | NoMatch) -> str:
    name = "match" if isinstance(found, Match) else found.reason
    return f"{name} {found.cosine:.2f} {found.probability:.2f}"


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
        compile_: Compile = partial(
            ApprovedAnswers.of, vocabulary=Vocabulary.of(tenant), scale=CosineScale.of(embedding)
        )
        approved = compile_([live_answer(item, embed=embed) for item in items])
        print(f"{len(items)} approved answers live, one wording each")
        for kind in ("paraphrases", "lookalikes"):
            print(outcomes(items, kind, approved=approved, embed=embed, show=options.show).line(kind))
        if options.wordings:
            print("the other paraphrases as wordings:")
            for kind, found in with_wordings(items, compile_=compile_, embed=embed).items():
                print(found.line(kind))
        asked = [question for item in items for question in (*item["paraphrases"], *item["lookalikes"])]
        print(f"CPU of a match: {cpu_per_match_us(approved, asked, embed=embed):.0f} µs, of near questions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
