"""Pairs that an embedding model is tuned on, from a tenant's own documents and desk.

An anchor is what people ask or say: a title, a question of a document, a sentence, a wording of an approved
answer. Its positives are passages of one document that belong to it, without the anchor's own words. A
document that an evaluation question asks about is held out whole, and so is whatever reads like it.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from assistant.domain.desk import ApprovedAnswer, ItemState
from assistant.domain.documents import Passage, StoredDocument, embedding_input
from assistant.domain.errors import InvalidRequestError
from assistant.evaluation.questions import EvaluationQuestion, split_of
from assistant.text.language import Language
from assistant.tuning.training_sets import Alike, as_lines, counts_told, markdown_table, write_folder

HoldOut = Literal["asked", "half"]
PairSplit = Literal["train", "validation"]
PAIR_SPLITS: tuple[PairSplit, ...] = ("train", "validation")
"""There is no test split: evaluation questions about held-out documents test the model."""
FEWEST_PAIRS = 100
"""That train. Fewer teach a model a few words, and nothing of the tenant's field."""
HELD_OUT = "held_out.txt"
"""Ids of the documents that a model tuned on the set never saw."""
PAIR_COLUMNS = ("split", "pairs", "documents", "kinds")
_SEED = "pairs"
_HELD_OUT_SAID: Mapping[HoldOut, str] = {
    "asked": "every document that an evaluation question names",
    "half": "the half of the documents by whose questions evaluation judges",
}


class PairKind(StrEnum):
    """What an anchor is."""

    TITLE = "title"
    QUESTION = "question"
    """A question of the document: ``questions:`` in its front matter, or added at the desk."""
    APPROVED = "approved"
    """A wording of an approved answer."""
    SENTENCE = "sentence"
    """One sentence of a passage (the inverse cloze task: Lee, Chang and Toutanova, ACL 2019)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An anchor with the passages that belong to it."""

    anchor: str
    positives: tuple[str, ...]
    """Texts as the model reads them. Several: the trainer takes the one that the base model finds nearest."""
    document_id: str
    """Split and false negatives go by it."""
    kind: PairKind
    rests_on: tuple[str, ...]
    """Ids of the passages, or of the desk's item."""
    content_hash: str
    """Of the document's content that the passages were cut from; empty for a desk item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRules:
    """Which pairs are made, and what is held out."""

    hold_out: HoldOut = "asked"
    """``asked``: every document that an evaluation question names. ``half``: the documents of the held-out
    half, for a tenant whose questions ask about nearly all of them."""
    sentences: int = 3
    """Sentences a passage that become anchors."""
    least_words: int = 6
    most_words: int = 40
    """Of such a sentence."""
    alike_from: float = 0.6
    """Share of common content stems from which two texts count as paraphrases."""
    validates_one_in: int = 8
    """One document of so many validates and never trains."""


@dataclass(slots=True)
class PairSets:
    """Pairs by split, the passages among which validation looks, and what was left out, by reason."""

    pairs: Mapping[PairSplit, Sequence[Pair]]
    passages: Sequence[Passage]
    held_out: frozenset[str]
    """Documents of which no pair is made; evaluation of the tuned model may count on them."""
    left_out: Counter[str] = field(default_factory=Counter[str])

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return each split with its numbers of pairs and of documents or desk items, and its kinds."""
        return [
            (
                name,
                str(len(pairs)),
                str(len({one.document_id for one in pairs})),
                counts_told(Counter(one.kind.value for one in pairs)),
            )
            for name, pairs in self.pairs.items()
        ]


def build_pairs(
    documents: Sequence[StoredDocument],
    *,
    approved: Mapping[str, ApprovedAnswer],
    protected: Sequence[EvaluationQuestion],
    language: Language,
    rules: PairRules | None = None,
) -> PairSets:
    """Return the pairs of these documents and of live approved answers (by item id), in a fixed order.

    ``protected``: evaluation questions. No pair is of a document that is held out, and no anchor paraphrases
    one of them or a title or question of such a document.
    """
    rules = rules or PairRules()
    ordered = sorted(documents, key=lambda one: one.card.document_id)
    held_out = _held_out(ordered, protected, rules)
    left_out: Counter[str] = Counter({"documents held out": len(held_out)})
    kept = [one for one in ordered if one.card.document_id not in held_out]
    known = {one.card.document_id for one in ordered}
    stems = [language.content_stems(text) for text in _protected_texts(ordered, protected, held_out)]
    guarded = Alike(rules.alike_from, dict.fromkeys(stems))
    splits: dict[PairSplit, list[Pair]] = {name: [] for name in PAIR_SPLITS}
    made = [*_of_documents(kept, rules), *_of_desk(approved, known)]
    seen: set[tuple[str, str]] = set()
    for pair in made:
        if pair.document_id in held_out:
            left_out["approved answers from held-out documents"] += 1
        elif guarded.of(language.content_stems(pair.anchor)):
            left_out[f"{pair.kind.value}s that read like what is held out"] += 1
        elif (pair.anchor.casefold(), pair.positives[0]) in seen:
            left_out["the same pair twice"] += 1
        else:
            seen.add((pair.anchor.casefold(), pair.positives[0]))
            splits[_split(pair.document_id, rules)].append(pair)
    return PairSets(
        splits, [passage for one in kept for passage in one.passages], frozenset(held_out), left_out
    )


def pair_row(pair: Pair) -> dict[str, Any]:
    """Return one line of ``pairs.SPLIT.jsonl``."""
    return {
        "anchor": pair.anchor,
        "positives": list(pair.positives),
        "document_id": pair.document_id,
        "kind": pair.kind.value,
        "provenance": {"rests_on": list(pair.rests_on), "content_hash": pair.content_hash},
    }


def passage_row(passage: Passage) -> dict[str, str]:
    """Return one line of ``passages.jsonl``: a passage as it is embedded when it is served."""
    return {
        "passage_id": passage.passage_id,
        "document_id": passage.document_id,
        "text": passage.embedding_input,
    }


# What is held out


def _held_out(
    documents: Sequence[StoredDocument], protected: Sequence[EvaluationQuestion], rules: PairRules
) -> set[str]:
    names = {one.card.document_id for one in documents}
    if rules.hold_out == "half":
        return {name for name in names if split_of(name) == "held_out"}
    return names & {name for question in protected for name in question.documents}


def _protected_texts(
    documents: Sequence[StoredDocument], protected: Sequence[EvaluationQuestion], held_out: set[str]
) -> Iterator[str]:
    yield from (question.question for question in protected)
    for document in documents:
        if document.card.document_id in held_out:
            yield from (document.card.title, *document.card.questions)


def _split(document_id: str, rules: PairRules) -> PairSplit:
    drawn = int.from_bytes(hashlib.sha256(f"{_SEED}:{document_id}".encode()).digest()[:4], "big")
    return "validation" if drawn % rules.validates_one_in == 0 else "train"


# Pairs


def _of_documents(documents: Sequence[StoredDocument], rules: PairRules) -> Iterator[Pair]:
    for document in documents:
        card, passages = document.card, document.passages
        if not passages:
            continue
        for passage in passages:
            bare = embedding_input(title="", heading=passage.heading, text=passage.text)
            yield _pair(card.title, (bare,), document, PairKind.TITLE, [passage])
        every = tuple(passage.embedding_input for passage in passages)
        for question in card.questions:
            yield _pair(question, every, document, PairKind.QUESTION, passages)
        for passage in passages:
            yield from _of_sentences(document, passage, rules)


def _of_sentences(document: StoredDocument, passage: Passage, rules: PairRules) -> Iterator[Pair]:
    fitting = [
        unit.text
        for unit in passage.units
        if rules.least_words <= len(unit.text.split()) <= rules.most_words and unit.text in passage.text
    ]
    drawn = random.Random(f"{_SEED}:{passage.passage_id}")  # noqa: S311 : no secret
    for sentence in drawn.sample(fitting, min(rules.sentences, len(fitting))):
        rest = " ".join(passage.text.replace(sentence, " ", 1).split())
        if len(rest.split()) < rules.least_words:
            continue
        text = embedding_input(title=passage.title, heading=passage.heading, text=rest)
        anchor = " ".join(sentence.split())
        yield _pair(anchor, (text,), document, PairKind.SENTENCE, [passage])


def _pair(
    anchor: str,
    positives: tuple[str, ...],
    document: StoredDocument,
    kind: PairKind,
    passages: Sequence[Passage],
) -> Pair:
    card = document.card
    rests_on = tuple(passage.passage_id for passage in passages)
    return Pair(anchor, positives, card.document_id, kind, rests_on, card.content_hash)


def _of_desk(approved: Mapping[str, ApprovedAnswer], known: set[str]) -> Iterator[Pair]:
    """Yield the wordings of live approved answers that every agent may read."""
    for item_id, answer in sorted(approved.items()):
        if answer.state is not ItemState.LIVE or answer.labels:
            continue
        sources = [source.document_id for source in answer.sources if source.document_id in known]
        document_id = sources[0] if sources else item_id
        for wording in answer.questions:
            yield Pair(wording, (answer.text,), document_id, PairKind.APPROVED, (item_id,), "")


# Files


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFacts:
    """What manifest and data card say beside the counts."""

    tenant: str
    index_version: str
    """Of the index whose passages the pairs hold."""
    questions_sha256: str
    """Of the file of evaluation questions; empty without one."""
    rules: PairRules


def write_pairs(sets: PairSets, folder: Path, facts: PairFacts) -> Path:
    """Write the pairs into a new folder of ``folder``, named by the hash of their content; return it.

    Raises InvalidRequestError for too few pairs, ConflictError when the folder was changed, OSError.
    """
    counts = {name: len(sets.pairs[name]) for name in PAIR_SPLITS}
    if counts["train"] < FEWEST_PAIRS or not counts["validation"]:
        raise InvalidRequestError(
            f"{counts['train']} training and {counts['validation']} validating pairs; {FEWEST_PAIRS} and 1 "
            f"are needed. {len(sets.held_out)} documents are held out; --hold-out half takes half of them."
        )
    content = {
        **{f"pairs.{name}.jsonl": as_lines(map(pair_row, sets.pairs[name])) for name in PAIR_SPLITS},
        "passages.jsonl": as_lines(map(passage_row, sets.passages)),
        HELD_OUT: ("\n".join(sorted(sets.held_out)) + "\n").encode(),
    }
    about = {name: value for name, value in asdict(facts).items() if name != "tenant"}
    card = {
        **about,
        **asdict(facts.rules),
        "table": markdown_table(PAIR_COLUMNS, sets.rows()),
        "left_out": counts_told(sets.left_out),
        "hold_out": _HELD_OUT_SAID[facts.rules.hold_out],
        "alike_from": f"{facts.rules.alike_from:.0%}",
    }
    manifest = {**about, "counts": counts}
    return write_folder(content, folder, tenant=facts.tenant, manifest=manifest, card=("pairs", card))
