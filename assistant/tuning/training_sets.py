"""Exports what models are tuned on as folders of files with a data card: versioned, never changed.

Training sets hold what agents did: supervised examples and preferences in TRL's conversational form. Pairs
for the embedding model have the same form of a folder: ``KIND.SPLIT.jsonl``, a manifest with the
files' hashes, and a card by the questions of Gebru et al., "Datasheets for datasets" (2021).

An example's prompt is what a model reads for the question; its completion is a text that people stand behind:
approved at the desk, sent, or marked good. A preference has the draft that they replaced as rejected. Texts
come from the sealed feedback: what was erased or withdrawn cannot be read, and so is never part of a new set.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Literal

import orjson
from rapidfuzz.distance import Levenshtein

from assistant.answering.ports import AnswerRecords, ChatMessage, DocumentTexts
from assistant.answering.prepare import DOCUMENTS_IN_PROMPT
from assistant.answering.prompt import document_text, load_prompt, neutralise, user_text
from assistant.domain.answers import VerdictLabel
from assistant.domain.desk import ApprovedAnswer, ItemState
from assistant.domain.documents import Passage, StoredDocument, embedding_input
from assistant.domain.errors import ConflictError, InvalidRequestError
from assistant.domain.feedback import FeedbackEvent, FeedbackKind, FeedbackText
from assistant.evaluation.questions import EvaluationQuestion, split_of
from assistant.knowledge.corpus import SIMILAR_FROM, word_triples
from assistant.learning.ports import PatientDataFilter
from assistant.private_files import make_private_folder, write_private
from assistant.settings.tenant import TenantConfig
from assistant.text.language import Language, has_unsupported_numbers, quantities

LEAST_AGREEMENT = 0.66
"""Share of the marks on near-identical questions that must agree on the document; an approved text needs
none."""
LEAST_EDIT = 0.1
"""Share of words that must differ for the draft to count as rejected."""
NEWEST_SHARE = 0.2
"""Share of the window, its end, that validates and never trains."""
_MARKS = frozenset({FeedbackKind.VERDICT, FeedbackKind.SENT})
_TEST_OF = 10
"""One document of so many belongs to the test split."""


class Origin(StrEnum):
    """Why people stand behind a text, the strongest first."""

    APPROVED = "approved"
    BETTER_TEXT = "better_text"
    SENT = "sent"
    MARKED_GOOD = "marked_good"


Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
CARD, MANIFEST = "card.md", "manifest.json"


@dataclass(frozen=True, slots=True)
class Example:
    """One question with the text that people stand behind."""

    answer_id: str
    document_id: str
    """The document that the answer quoted first: all its examples are in one side of the split."""
    at: datetime
    question: str
    prompt: tuple[ChatMessage, ...]
    chosen: str
    rejected: str | None
    """The draft, where people replaced it."""
    origin: Origin
    agreement: float
    """Share of the marks on answers to near-identical questions that agree, 0 to 1."""
    events: tuple[str, ...]
    """Ids of the events that it rests on."""


PromptOf = Callable[[str, str], Awaitable[tuple[ChatMessage, ...] | None]]
"""Returns what a model reads for an answer (its id) and question; None where the answer's record or one of
its documents is gone."""


@dataclass(slots=True)
class Sets:
    """The examples by split, and how many were left out, by reason."""

    examples: Mapping[Split, Sequence[Example]]
    events: int
    """Of which they were made."""
    left_out: Counter[str] = field(default_factory=Counter[str])
    replaced: Counter[str] = field(default_factory=Counter[str])
    """Patients' data that was still found and replaced, by kind."""


async def build_sets(
    events: Sequence[FeedbackEvent],
    *,
    texts: Mapping[str, FeedbackText],
    approved: Sequence[ApprovedAnswer],
    prompt_of: PromptOf,
    patients_data: PatientDataFilter,
) -> Sets:
    """Return the sets of these events. ``texts``: the readable ones, by text id. The same input gives the
    same sets, in the same order."""
    left_out: Counter[str] = Counter()
    replaced: Counter[str] = Counter()
    drafts = _drafts(events, texts, approved, left_out)
    drafts = [_without_patients_data(draft, patients_data, replaced) for draft in drafts]
    agreed = _agreeing(drafts, left_out)
    unlike = _without_duplicates(agreed, left_out)
    whole: list[Example] = []
    for pair in unlike:
        messages = await prompt_of(pair.answer_id, pair.question)
        if messages is None:
            left_out["its document or record is gone"] += 1
            continue
        # a number, dose or code that the prompt does not hold would teach a model to invent
        held = quantities(messages[-1].content)
        if not pair.document_id or has_unsupported_numbers(quantities(pair.chosen), held):
            left_out["its sources do not hold what it says"] += 1
            continue
        whole.append(replace(pair, prompt=messages, rejected=_rejected(pair)))
    return Sets(_split(whole, left_out), len(events), left_out, replaced)


def supervised_row(example: Example) -> dict[str, Any]:
    """Return one line of an SFT set: ``prompt`` and ``completion`` as conversations, and the provenance."""
    return _row(example, completion=example.chosen)


def preference_row(example: Example) -> dict[str, Any] | None:
    """Return one line of a preference set; None for an example that replaced no draft."""
    if example.rejected is None:
        return None
    return _row(example, chosen=example.chosen, rejected=example.rejected)


def _row(example: Example, **said: str) -> dict[str, Any]:
    return {
        "prompt": example.prompt,
        **{name: [{"role": "assistant", "content": text}] for name, text in said.items()},
        "provenance": {
            "answer_id": example.answer_id,
            "document_id": example.document_id,
            "origin": example.origin,
            "agreement": round(example.agreement, 3),
            "events": example.events,
        },
    }


# From events to drafts of examples


def _drafts(
    events: Sequence[FeedbackEvent],
    texts: Mapping[str, FeedbackText],
    approved: Sequence[ApprovedAnswer],
    left_out: Counter[str],
) -> list[Example]:
    """Return an example for each answer that people marked, in the order of time."""
    of_answer: dict[str, list[FeedbackEvent]] = defaultdict(list)
    for event in sorted(events, key=lambda one: (one.at, one.event_id)):
        if event.kind in _MARKS:
            of_answer[event.answer_id].append(event)
    live = {item.from_answer: item for item in approved if item.state is ItemState.LIVE and item.from_answer}
    examples: list[Example] = []
    for answer_id, marks in of_answer.items():
        readable = [(mark, texts[mark.text_id]) for mark in marks if mark.text_id and mark.text_id in texts]
        if not readable:
            left_out["its text is erased or was not kept"] += 1
            continue
        chosen = _chosen(readable, live.get(answer_id))
        if chosen is None:
            left_out["nobody stands behind a text"] += 1
            continue
        origin, text, rests_on = chosen
        last = marks[-1]
        quoted = [document.document_id for document in last.documents if document.is_quoted]
        examples.append(
            Example(
                answer_id=answer_id,
                document_id=quoted[0] if quoted else "",
                at=last.at,
                question=readable[-1][1].question,
                prompt=(),
                chosen=text.strip(),
                rejected=readable[-1][1].shown.strip() or None,
                origin=origin,
                agreement=1.0,
                events=tuple(rest.event_id for rest in rests_on),
            )
        )
    return examples


def _chosen(
    marks: Sequence[tuple[FeedbackEvent, FeedbackText]], approved: ApprovedAnswer | None
) -> tuple[Origin, str, list[FeedbackEvent]] | None:
    """Return the text that people stand behind, and the events that say so. The latest mark counts."""
    if approved is not None:
        return Origin.APPROVED, approved.text, [event for event, _ in marks]
    verdicts = [(event, text) for event, text in marks if event.kind is FeedbackKind.VERDICT]
    is_bad = bool(verdicts) and verdicts[-1][0].label is VerdictLabel.BAD
    if is_bad and (better := verdicts[-1][1].better_text):
        return Origin.BETTER_TEXT, better, [verdicts[-1][0]]
    sent = [(event, text.sent) for event, text in marks if event.kind is FeedbackKind.SENT and text.sent]
    edited = [(event, text) for event, text in sent if event.edit is not None and event.edit.distance > 0]
    if sent and (edited or not is_bad) and not sent[-1][0].unsupported_sent:
        event, text = sent[-1]
        return (Origin.SENT, text or "", [event]) if text else None
    if verdicts and not is_bad and verdicts[-1][1].shown:
        return Origin.MARKED_GOOD, verdicts[-1][1].shown, [verdicts[-1][0]]
    return None


def _without_patients_data(
    example: Example, patients_data: PatientDataFilter, replaced: Counter[str]
) -> Example:
    """Replace what the filter finds now: an older release of it may have missed some."""

    def clean(text: str) -> str:
        found = patients_data.replace(text)
        replaced.update(found.found)
        return found.text

    rejected = None if example.rejected is None else clean(example.rejected)
    return replace(example, question=clean(example.question), chosen=clean(example.chosen), rejected=rejected)


def _rejected(example: Example) -> str | None:
    """Return the draft if the chosen text differs enough from it."""
    if example.rejected is None:
        return None
    distance = Levenshtein.normalized_distance(example.rejected.split(), example.chosen.split())
    return example.rejected if distance >= LEAST_EDIT else None


# Agreement, near-duplicates, splits


def _agreeing(examples: Sequence[Example], left_out: Counter[str]) -> list[Example]:
    """Return the examples whose document most marks on near-identical questions agree on."""
    alike = families([example.question for example in examples])
    documents: dict[int, Counter[str]] = defaultdict(Counter)
    for family, one in zip(alike, examples, strict=True):
        documents[family][one.document_id] += len(one.events)
    kept: list[Example] = []
    for family, one in zip(alike, examples, strict=True):
        marks = documents[family]
        share = marks[one.document_id] / marks.total()
        if one.origin is Origin.APPROVED:
            kept.append(one)
        elif share < LEAST_AGREEMENT:
            left_out["marks disagree"] += 1
        else:
            kept.append(replace(one, agreement=share))
    return kept


def _without_duplicates(examples: Sequence[Example], left_out: Counter[str]) -> list[Example]:
    """Return one example of each group of near-duplicates: the strongest, of these the latest."""
    alike = families([f"{example.question}\n{example.chosen}" for example in examples])
    order = list(Origin)
    best: dict[int, int] = {}
    for at, (family, one) in enumerate(zip(alike, examples, strict=True)):
        before = best.get(family)
        if before is None or order.index(one.origin) <= order.index(examples[before].origin):
            best[family] = at
    left_out["near-duplicates"] += len(examples) - len(best)
    return [examples[at] for at in sorted(best.values())]


def _split(examples: Sequence[Example], left_out: Counter[str]) -> Mapping[Split, Sequence[Example]]:
    """Split by document and by time: no document is in train and test, no training example is newer than a
    validating one, and no question in train is a near-duplicate of one in test."""
    if not examples:
        return dict.fromkeys(SPLITS, ())
    first, last = min(example.at for example in examples), max(example.at for example in examples)
    cut = last - (last - first) * NEWEST_SHARE
    alike = families([example.question for example in examples])
    tested = {family for family, one in zip(alike, examples, strict=True) if _is_tested(one.document_id)}
    split: dict[Split, list[Example]] = {name: [] for name in SPLITS}
    for family, one in zip(alike, examples, strict=True):
        if _is_tested(one.document_id):
            split["test"].append(one)
        elif family in tested:
            left_out["its question is near one of the test split"] += 1
        else:
            split["validation" if one.at > cut else "train"].append(one)
    return split


def _is_tested(document_id: str) -> bool:
    return int.from_bytes(hashlib.sha256(document_id.encode()).digest()[:4], "big") % _TEST_OF == 0


# Near-duplicates


class Alike:
    """Sets of parts, with an index by part: only those that share one are compared."""

    def __init__(self, similar_from: float, known: Iterable[frozenset[str]] = ()) -> None:
        """``similar_from``: share of common parts from which two sets are alike."""
        self._similar_from = similar_from
        self._sets: list[frozenset[str]] = []
        self._holding: defaultdict[str, list[int]] = defaultdict(list)
        for parts in known:
            self.add(parts)

    def add(self, parts: frozenset[str]) -> None:
        for part in parts:
            self._holding[part].append(len(self._sets))
        self._sets.append(parts)

    def of(self, parts: frozenset[str]) -> list[int]:
        """Return the numbers of the sets that are alike, in the order in which they were added."""
        common = Counter(at for part in parts for at in self._holding.get(part, ()))
        return sorted(
            at
            for at, count in common.items()
            if count / (len(parts) + len(self._sets[at]) - count) >= self._similar_from
        )


def families(texts: Sequence[str]) -> list[int]:
    """Return the family of each text, which is the number of its first member: texts that are alike by their
    word triples, case and white space aside, and whatever is alike to one of them."""
    index, family = Alike(SIMILAR_FROM), list[int]()
    for at, text in enumerate(texts):
        triples = word_triples(text)
        joined = {family[other] for other in index.of(triples)}
        first = min(joined, default=at)
        family = [first if member in joined else member for member in family] if len(joined) > 1 else family
        family.append(first)
        index.add(triples)
    return family


# Prompts and files


async def recorded_prompt(
    answer_id: str, question: str, *, prompt_id: str, records: AnswerRecords, texts: DocumentTexts
) -> tuple[ChatMessage, ...] | None:
    """Return what a model would read for a recorded answer, of the documents as they are; None where the
    record or the content of a source is gone."""
    record = await records.get_answer(answer_id)
    if record is None:
        return None
    read: list[str] = []
    for use in record.passages[:DOCUMENTS_IN_PROMPT]:
        labels = frozenset(record.labels)
        document = await texts.read(use.document_id, use.content_hash, labels=labels)
        if document is None:
            return None
        read.append(document_text(len(read) + 1, use.title, document.units))
    template = load_prompt(prompt_id)
    user = user_text(template, read, "", neutralise(question))
    return ChatMessage("system", template.system), ChatMessage("user", user)


def export_of_sets(sets: Sets, *, tenant: TenantConfig, window: tuple[datetime, datetime]) -> Export:
    """Return what the sets become. Raises InvalidRequestError where no example is left."""
    if not any(sets.examples.values()):
        raise InvalidRequestError(
            f"{sets.events} events make no example (left out: {counts_told(sets.left_out)}). Take a longer "
            "window with --since."
        )
    content: dict[str, bytes] = {}
    rows: list[tuple[str, ...]] = []
    for split, examples in sets.examples.items():
        preferences = [row for row in map(preference_row, examples) if row is not None]
        content[f"sft.{split}.jsonl"] = as_lines(map(supervised_row, examples))
        content[f"preference.{split}.jsonl"] = as_lines(preferences)
        documents = {example.document_id for example in examples}
        rows.append((split, str(len(examples)), str(len(preferences)), str(len(documents))))
    every = [example for examples in sets.examples.values() for example in examples]
    return Export(
        tenant=tenant.name,
        template="training_sets",
        content=content,
        manifest={"window": window, "prompt": tenant.answers.prompt},
        columns=("split", "examples", "preferences", "documents"),
        rows=rows,
        left_out=sets.left_out,
        told={
            "events": sets.events,
            "since": f"{window[0]:%Y-%m-%d}",
            "until": f"{window[1]:%Y-%m-%d}",
            "purpose": tenant.feedback.purpose.rstrip(".") or "not stated in the tenant file",
            "origins": counts_told(Counter(example.origin.value for example in every)),
            "replaced": counts_told(sets.replaced),
            "prompt_id": tenant.answers.prompt,
            "least_agreement": f"{LEAST_AGREEMENT:.0%}",
            "similar_from": SIMILAR_FROM,
            "newest_share": f"{NEWEST_SHARE:.0%}",
        },
    )


# Folders


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What becomes a folder: its files, what its manifest adds to their hashes, and what its card tells."""

    tenant: str
    template: str
    """Of the card."""
    content: Mapping[str, bytes]
    manifest: Mapping[str, Any]
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    """One for each split; what the card tells, and the command."""
    left_out: Mapping[str, int]
    told: Mapping[str, object]

    def write(self, folder: Path) -> Path:
        """Write files, manifest and card into a new folder of ``folder``, TENANT-VERSION; return it.

        The same content is the same folder, which is left as it is. A folder appears whole or not at all.
        Raises ConflictError when it exists with other content, OSError.
        """
        hashes = {name: hashlib.sha256(raw).hexdigest() for name, raw in sorted(self.content.items())}
        about = {"schema_version": 1, "tenant": self.tenant, **self.manifest, "files": hashes}
        raw = orjson.dumps(about, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
        version = hashlib.sha256(raw).hexdigest()
        target = folder / f"{self.tenant}-{version[:12]}"
        if target.exists():
            if (target / MANIFEST).read_bytes() != raw:
                raise ConflictError(f"{target} has another manifest: it was changed. Move it away and retry.")
            return target
        making = folder / f".{target.name}.{os.getpid()}"
        make_private_folder(making)
        try:
            for file, written in {**self.content, MANIFEST: raw, CARD: self._card(version)}.items():
                write_private(making / file, written)
            making.rename(target)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
        return target

    def _card(self, version: str) -> bytes:
        template = files("assistant.tuning").joinpath("cards", f"{self.template}.md").read_text("utf-8")
        rows = (self.columns, ["---"] * len(self.columns), *self.rows)
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        left_out = counts_told(self.left_out)
        told = {**self.told, "tenant": self.tenant, "version": version, "table": table, "left_out": left_out}
        return Template(template).substitute(told).encode()


def as_lines(rows: Iterable[object]) -> bytes:
    """Return JSON lines."""
    return b"".join(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) + b"\n" for row in rows)


def counts_told(counts: Mapping[str, int]) -> str:
    """Return the counts that are not 0, by name, for a data card."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count) or "none"


# Pairs
#
# What an embedding model is tuned on, from a tenant's own documents and desk. An anchor is what people ask or
# say: a title, a question of a document, a sentence, a wording of an approved answer. Its positives are
# passages of one document that belong to it, without the anchor's own words. A document that an evaluation
# question asks about is held out whole, and so is whatever reads like it.

HoldOut = Literal["asked", "half"]
PairSplit = Literal["train", "validation"]
PAIR_SPLITS: tuple[PairSplit, ...] = ("train", "validation")
"""There is no test split: evaluation questions about held-out documents test the model."""
FEWEST_PAIRS = 100
"""That train. Fewer teach a model a few words, and nothing of the tenant's field."""
HELD_OUT = "held_out.txt"
"""Ids of the documents that a model tuned on the set never saw."""
SENTENCES = 3
"""Of a passage that become anchors."""
_WORDS = range(6, 41)
"""Of such a sentence."""
ALIKE_FROM = 0.6
"""Share of common content stems from which two texts count as paraphrases."""
VALIDATES_ONE_IN = 8
"""One document of so many validates and never trains."""
_PAIRS_SEED = "pairs"
_HELD_OUT_TOLD: Mapping[HoldOut, str] = {
    "asked": "every document that an evaluation question names",
    "half": "the half of the documents by whose questions evaluation judges",
}
"""``half`` is for a tenant whose questions ask about nearly all documents."""
PairKind = Literal["title", "question", "approved", "sentence"]
"""What an anchor is: a title; a question of the document (``questions:`` in its front matter, or added at the
desk); a wording of an approved answer; one sentence of a passage (the inverse cloze task: Lee, Chang and
Toutanova, ACL 2019)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An anchor with the passages that belong to it: one line of ``pairs.SPLIT.jsonl``."""

    anchor: str
    positives: tuple[str, ...]
    """Texts as the model reads them. Several: the trainer takes the one that the base model finds nearest."""
    document_id: str
    """Split and false negatives go by it."""
    kind: PairKind
    provenance: Mapping[str, Any]
    """``rests_on``: ids of the passages, or of the desk's item. ``content_hash``: of the document's content
    that the passages were cut from; empty for a desk item."""


@dataclass(slots=True)
class PairSets:
    """Pairs by split, the passages among which validation looks, and what was left out, by reason."""

    pairs: Mapping[PairSplit, Sequence[Pair]]
    passages: Sequence[Passage]
    hold_out: HoldOut
    held_out: frozenset[str]
    """Documents of which no pair is made; evaluation of the tuned model may count on them."""
    left_out: Counter[str] = field(default_factory=Counter[str])


def build_pairs(
    documents: Sequence[StoredDocument],
    *,
    approved: Mapping[str, ApprovedAnswer],
    protected: Sequence[EvaluationQuestion],
    language: Language,
    hold_out: HoldOut = "asked",
) -> PairSets:
    """Return the pairs of these documents and of live approved answers (by item id), in a fixed order.

    ``protected``: evaluation questions. No pair is of a document that is held out, and no anchor paraphrases
    one of them or a title or question of such a document.
    """
    ordered = sorted(documents, key=lambda one: one.card.document_id)
    held_out = _held_out(ordered, protected, hold_out)
    left_out: Counter[str] = Counter({"documents held out": len(held_out)})
    kept = [document for document in ordered if document.card.document_id not in held_out]
    known = {document.card.document_id for document in ordered}
    stems = [language.content_stems(text) for text in _protected_texts(ordered, protected, held_out)]
    guarded = Alike(ALIKE_FROM, dict.fromkeys(stems))
    splits: dict[PairSplit, list[Pair]] = {name: [] for name in PAIR_SPLITS}
    made = [*_of_documents(kept), *_of_desk(approved, known)]
    seen: set[tuple[str, str]] = set()
    for pair in made:
        if pair.document_id in held_out:
            left_out["approved answers from held-out documents"] += 1
        elif guarded.of(language.content_stems(pair.anchor)):
            left_out[f"{pair.kind}s that read like what is held out"] += 1
        elif (pair.anchor.casefold(), pair.positives[0]) in seen:
            left_out["the same pair twice"] += 1
        else:
            seen.add((pair.anchor.casefold(), pair.positives[0]))
            splits[_pair_split(pair.document_id)].append(pair)
    passages = [passage for document in kept for passage in document.passages]
    return PairSets(splits, passages, hold_out, frozenset(held_out), left_out)


# What is held out


def _held_out(
    documents: Sequence[StoredDocument], protected: Sequence[EvaluationQuestion], hold_out: HoldOut
) -> set[str]:
    names = {document.card.document_id for document in documents}
    if hold_out == "half":
        return {name for name in names if split_of(name) == "held_out"}
    return names & {name for question in protected for name in question.documents}


def _protected_texts(
    documents: Sequence[StoredDocument], protected: Sequence[EvaluationQuestion], held_out: set[str]
) -> Iterator[str]:
    yield from (question.question for question in protected)
    for document in documents:
        if document.card.document_id in held_out:
            yield from (document.card.title, *document.card.questions)


def _pair_split(document_id: str) -> PairSplit:
    drawn = int.from_bytes(hashlib.sha256(f"{_PAIRS_SEED}:{document_id}".encode()).digest()[:4], "big")
    return "validation" if drawn % VALIDATES_ONE_IN == 0 else "train"


# Pairs


def _of_documents(documents: Sequence[StoredDocument]) -> Iterator[Pair]:
    for document in documents:
        card, passages = document.card, document.passages
        if not passages:
            continue
        for passage in passages:
            bare = embedding_input(title="", heading=passage.heading, text=passage.text)
            yield _pair(card.title, (bare,), document, "title", [passage])
        every = tuple(passage.embedding_input for passage in passages)
        for question in card.questions:
            yield _pair(question, every, document, "question", passages)
        for passage in passages:
            yield from _of_sentences(document, passage)


def _of_sentences(document: StoredDocument, passage: Passage) -> Iterator[Pair]:
    fitting = [
        unit.text for unit in passage.units if len(unit.text.split()) in _WORDS and unit.text in passage.text
    ]
    drawn = random.Random(f"{_PAIRS_SEED}:{passage.passage_id}")  # noqa: S311 : no secret
    for sentence in drawn.sample(fitting, min(SENTENCES, len(fitting))):
        rest = " ".join(passage.text.replace(sentence, " ", 1).split())
        if len(rest.split()) < _WORDS.start:
            continue
        text = embedding_input(title=passage.title, heading=passage.heading, text=rest)
        anchor = " ".join(sentence.split())
        yield _pair(anchor, (text,), document, "sentence", [passage])


def _pair(
    anchor: str,
    positives: tuple[str, ...],
    document: StoredDocument,
    kind: PairKind,
    passages: Sequence[Passage],
) -> Pair:
    card, rests_on = document.card, [passage.passage_id for passage in passages]
    provenance = {"rests_on": rests_on, "content_hash": card.content_hash}
    return Pair(anchor, positives, card.document_id, kind, provenance)


def _of_desk(approved: Mapping[str, ApprovedAnswer], known: set[str]) -> Iterator[Pair]:
    """Yield the wordings of live approved answers that every agent may read."""
    for item_id, answer in sorted(approved.items()):
        if answer.state is not ItemState.LIVE or answer.labels:
            continue
        sources = [source.document_id for source in answer.sources if source.document_id in known]
        document_id = sources[0] if sources else item_id
        for wording in answer.questions:
            provenance = {"rests_on": [item_id], "content_hash": ""}
            yield Pair(wording, (answer.text,), document_id, "approved", provenance)


def export_of_pairs(sets: PairSets, *, tenant: str, index_version: str, questions_sha256: str) -> Export:
    """Return what the pairs become. ``index_version``: of the index whose passages they hold;
    ``questions_sha256``: of the file of evaluation questions, empty without one.

    Raises InvalidRequestError for too few pairs.
    """
    counts = {name: len(sets.pairs[name]) for name in PAIR_SPLITS}
    if counts["train"] < FEWEST_PAIRS or not counts["validation"]:
        raise InvalidRequestError(
            f"{counts['train']} training and {counts['validation']} validating pairs; {FEWEST_PAIRS} and 1 "
            f"are needed. {len(sets.held_out)} documents are held out; --hold-out half takes half of them."
        )
    passages = (
        {
            "passage_id": passage.passage_id,
            "document_id": passage.document_id,
            "text": passage.embedding_input,
        }
        for passage in sets.passages
    )
    about = {"index_version": index_version, "questions_sha256": questions_sha256}
    return Export(
        tenant=tenant,
        template="pairs",
        content={
            **{f"pairs.{name}.jsonl": as_lines(pairs) for name, pairs in sets.pairs.items()},
            "passages.jsonl": as_lines(passages),
            HELD_OUT: ("\n".join(sorted(sets.held_out)) + "\n").encode(),
        },
        manifest={**about, "hold_out": sets.hold_out, "counts": counts},
        columns=("split", "pairs", "documents", "kinds"),
        rows=[
            (
                name,
                str(len(pairs)),
                str(len({pair.document_id for pair in pairs})),
                counts_told(Counter(pair.kind for pair in pairs)),
            )
            for name, pairs in sets.pairs.items()
        ],
        left_out=sets.left_out,
        told={
            **about,
            "hold_out": _HELD_OUT_TOLD[sets.hold_out],
            "alike_from": f"{ALIKE_FROM:.0%}",
            "validates_one_in": VALIDATES_ONE_IN,
        },
    )
