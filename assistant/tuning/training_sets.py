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
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Literal

import orjson
from rapidfuzz.distance import Levenshtein

from assistant.answering.evidence import DOCUMENTS_READ
from assistant.answering.ports import AnswerRecords, ChatMessage, DocumentTexts
from assistant.answering.prompt import document_text, load_prompt, neutralise, user_text
from assistant.domain.answers import VerdictLabel
from assistant.domain.desk import ApprovedAnswer, ItemState
from assistant.domain.documents import Passage, StoredDocument, embedding_input
from assistant.domain.errors import ConflictError, InvalidRequestError
from assistant.domain.feedback import FeedbackEvent, FeedbackKind, FeedbackText
from assistant.evaluation.questions import EvaluationQuestion, split_of
from assistant.learning.ports import PatientDataFilter
from assistant.private_files import make_private_folder, write_private
from assistant.text.language import Language, has_unsupported_numbers, quantities

_MARKS = frozenset({FeedbackKind.VERDICT, FeedbackKind.SENT})
_SHINGLE_WORDS = 3
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
SET_COLUMNS = ("split", "examples", "preferences", "documents")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRules:
    """What an example must be to enter a set."""

    least_agreement: float = 0.66
    least_marks: int = 1
    """Marks on near-identical questions; an approved text needs none."""
    similar_from: float = 0.8
    """Jaccard similarity of word triples from which two texts are near-duplicates."""
    least_edit: float = 0.1
    """Share of words that must differ for the draft to count as rejected."""
    newest_share: float = 0.2
    """Share of the window, its end, that validates and never trains."""


@dataclass(slots=True)
class Sets:
    """The examples by split, and how many were left out, by reason."""

    examples: Mapping[Split, Sequence[Example]]
    left_out: Counter[str] = field(default_factory=Counter[str])
    replaced: Counter[str] = field(default_factory=Counter[str])
    """Patients' data that was still found and replaced, by kind."""

    def rows(self) -> list[tuple[str, ...]]:
        """Return each split with its numbers of examples, preferences and documents (``SET_COLUMNS``)."""
        return [
            (
                name,
                str(len(examples)),
                str(sum(one.rejected is not None for one in examples)),
                str(len({one.document_id for one in examples})),
            )
            for name, examples in self.examples.items()
        ]


async def build_sets(
    events: Sequence[FeedbackEvent],
    *,
    texts: Mapping[str, FeedbackText],
    approved: Sequence[ApprovedAnswer],
    prompt_of: PromptOf,
    patients_data: PatientDataFilter,
    rules: SetRules | None = None,
) -> Sets:
    """Return the sets of these events. ``texts``: the readable ones, by text id. The same input gives the
    same sets, in the same order."""
    rules = rules or SetRules()
    left_out: Counter[str] = Counter()
    replaced: Counter[str] = Counter()
    drafts = _drafts(events, texts, approved, left_out)
    drafts = [_without_patients_data(one, patients_data, replaced) for one in drafts]
    agreed = _agreeing(drafts, rules, left_out)
    unlike = _without_duplicates(agreed, rules, left_out)
    whole: list[Example] = []
    for one in unlike:
        messages = await prompt_of(one.answer_id, one.question)
        if messages is None:
            left_out["its document or record is gone"] += 1
            continue
        if not one.document_id or _says_more(one.chosen, messages):
            left_out["its sources do not hold what it says"] += 1
            continue
        whole.append(replace(one, prompt=messages, rejected=_rejected(one, rules)))
    return Sets(_split(whole, rules, left_out), left_out, replaced)


def supervised_row(example: Example) -> dict[str, Any]:
    """Return one line of an SFT set: ``prompt`` and ``completion`` as conversations, and the provenance."""
    return {
        "prompt": _messages(example.prompt),
        "completion": [{"role": "assistant", "content": example.chosen}],
        "provenance": _provenance(example),
    }


def preference_row(example: Example) -> dict[str, Any] | None:
    """Return one line of a preference set; None for an example that replaced no draft."""
    if example.rejected is None:
        return None
    return {
        "prompt": _messages(example.prompt),
        "chosen": [{"role": "assistant", "content": example.chosen}],
        "rejected": [{"role": "assistant", "content": example.rejected}],
        "provenance": _provenance(example),
    }


def _messages(prompt: Sequence[ChatMessage]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in prompt]


def _provenance(example: Example) -> dict[str, Any]:
    return {
        "answer_id": example.answer_id,
        "document_id": example.document_id,
        "origin": example.origin.value,
        "agreement": round(example.agreement, 3),
        "events": list(example.events),
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
    live = {one.from_answer: one for one in approved if one.state is ItemState.LIVE and one.from_answer}
    found: list[Example] = []
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
        quoted = [one.document_id for one in last.documents if one.is_quoted]
        found.append(
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
                events=tuple(one.event_id for one in rests_on),
            )
        )
    return found


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


def _says_more(chosen: str, prompt: Sequence[ChatMessage]) -> bool:
    """Return whether a text has a number, dose or code that its prompt does not hold: learning such texts
    teaches a model to invent."""
    held = quantities(prompt[-1].content)
    return has_unsupported_numbers(quantities(chosen), held)


def _rejected(example: Example, rules: SetRules) -> str | None:
    """Return the draft if the chosen text differs enough from it."""
    if example.rejected is None:
        return None
    distance = Levenshtein.normalized_distance(example.rejected.split(), example.chosen.split())
    return example.rejected if distance >= rules.least_edit else None


# Agreement, near-duplicates, splits


def _agreeing(examples: Sequence[Example], rules: SetRules, left_out: Counter[str]) -> list[Example]:
    """Return the examples whose document most marks on near-identical questions agree on."""
    alike = families([one.question for one in examples], similar_from=rules.similar_from)
    documents: dict[int, Counter[str]] = defaultdict(Counter)
    for family, one in zip(alike, examples, strict=True):
        documents[family][one.document_id] += len(one.events)
    kept: list[Example] = []
    for family, one in zip(alike, examples, strict=True):
        marks = documents[family]
        share = marks[one.document_id] / marks.total()
        if one.origin is Origin.APPROVED:
            kept.append(one)
        elif marks[one.document_id] < rules.least_marks:
            left_out["too few marks"] += 1
        elif share < rules.least_agreement:
            left_out["marks disagree"] += 1
        else:
            kept.append(replace(one, agreement=share))
    return kept


def _without_duplicates(
    examples: Sequence[Example], rules: SetRules, left_out: Counter[str]
) -> list[Example]:
    """Return one example of each group of near-duplicates: the strongest, of these the latest."""
    alike = families([f"{one.question}\n{one.chosen}" for one in examples], similar_from=rules.similar_from)
    order = list(Origin)
    best: dict[int, int] = {}
    for at, (family, one) in enumerate(zip(alike, examples, strict=True)):
        before = best.get(family)
        if before is None or order.index(one.origin) <= order.index(examples[before].origin):
            best[family] = at
    left_out["near-duplicates"] += len(examples) - len(best)
    return [examples[at] for at in sorted(best.values())]


def _split(
    examples: Sequence[Example], rules: SetRules, left_out: Counter[str]
) -> Mapping[Split, Sequence[Example]]:
    """Split by document and by time: no document is in train and test, no training example is newer than a
    validating one, and no question in train is a near-duplicate of one in test."""
    if not examples:
        return dict.fromkeys(SPLITS, ())
    first, last = min(one.at for one in examples), max(one.at for one in examples)
    cut = last - (last - first) * rules.newest_share
    alike = families([one.question for one in examples], similar_from=rules.similar_from)
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


def families(texts: Sequence[str], *, similar_from: float) -> list[int]:
    """Return the family of each text, which is the number of its first member: texts that are alike by their
    word triples, case and white space aside, and whatever is alike to one of them."""
    index, family = Alike(similar_from), list[int]()
    for at, text in enumerate(texts):
        triples = _triples(text)
        joined = {family[other] for other in index.of(triples)}
        first = min(joined, default=at)
        family = [first if one in joined else one for one in family] if len(joined) > 1 else family
        family.append(first)
        index.add(triples)
    return family


def _triples(text: str) -> frozenset[str]:
    words = text.lower().split()
    count = max(1, len(words) - _SHINGLE_WORDS + 1)
    return frozenset(" ".join(words[at : at + _SHINGLE_WORDS]) for at in range(count))


# Prompts and files


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedPrompts:
    """Builds what a model of this prompt would read for a recorded answer, from the documents as they are."""

    records: AnswerRecords
    texts: DocumentTexts
    prompt_id: str

    async def of_answer(self, answer_id: str, question: str) -> tuple[ChatMessage, ...] | None:
        """Return the messages; None where the record or the content of a source is gone."""
        record = await self.records.get_answer(answer_id)
        if record is None:
            return None
        read: list[str] = []
        for use in record.passages[:DOCUMENTS_READ]:
            labels = frozenset(record.labels)
            document = await self.texts.read(use.document_id, use.content_hash, labels=labels)
            if document is None:
                return None
            read.append(document_text(len(read) + 1, use.title, document.units))
        template = load_prompt(self.prompt_id)
        user = user_text(template, read, "", neutralise(question))
        return ChatMessage("system", template.system), ChatMessage("user", user)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFacts:
    """What the data card says beside the counts."""

    tenant: str
    purpose: str
    since: datetime
    until: datetime
    events: int
    prompt_id: str
    rules: SetRules


def write_sets(sets: Sets, folder: Path, facts: SetFacts) -> Path:
    """Write the sets into a new folder of ``folder``, named by the hash of their content; return it.

    Raises InvalidRequestError where no example is left, ConflictError when the folder exists with other
    content, OSError.
    """
    if not any(sets.examples.values()):
        raise InvalidRequestError(
            f"{facts.events} events make no example (left out: {counts_told(sets.left_out)}). Take a longer "
            "window with --since."
        )
    content: dict[str, bytes] = {}
    for split in SPLITS:
        preferences = map(preference_row, sets.examples[split])
        content[f"sft.{split}.jsonl"] = as_lines(map(supervised_row, sets.examples[split]))
        content[f"preference.{split}.jsonl"] = as_lines(row for row in preferences if row is not None)
    rules, dates = facts.rules, (facts.since, facts.until)
    card = {
        **asdict(facts),
        **asdict(rules),
        "table": markdown_table(SET_COLUMNS, sets.rows()),
        "since": f"{dates[0]:%Y-%m-%d}",
        "until": f"{dates[1]:%Y-%m-%d}",
        "purpose": facts.purpose.rstrip(".") or "not stated in the tenant file",
        "origins": counts_told(Counter(one.origin.value for name in SPLITS for one in sets.examples[name])),
        "left_out": counts_told(sets.left_out),
        "replaced": counts_told(sets.replaced),
        "least_agreement": f"{rules.least_agreement:.0%}",
        "newest_share": f"{rules.newest_share:.0%}",
    }
    manifest = {"window": [date.isoformat() for date in dates], "prompt": facts.prompt_id}
    return write_folder(content, folder, tenant=facts.tenant, manifest=manifest, card=("training_sets", card))


# Folders


def write_folder(
    content: Mapping[str, bytes],
    folder: Path,
    *,
    tenant: str,
    manifest: Mapping[str, Any],
    card: tuple[str, Mapping[str, object]],
) -> Path:
    """Write a set's files, its manifest with their hashes and its card; return the new folder TENANT-VERSION.

    ``card``: the template's name, and what it tells. The same content is the same folder, which is left as it
    is. A folder appears whole or not at all. Raises ConflictError when it exists with other content, OSError.
    """
    hashes = {name: hashlib.sha256(raw).hexdigest() for name, raw in sorted(content.items())}
    about = {"schema_version": 1, "tenant": tenant, **manifest, "files": hashes}
    raw = orjson.dumps(about, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
    version, (name, told) = hashlib.sha256(raw).hexdigest(), card
    target = folder / f"{tenant}-{version[:12]}"
    if target.exists():
        if (target / MANIFEST).read_bytes() != raw:
            raise ConflictError(f"{target} has another manifest: it was changed. Move it away and retry.")
        return target
    template = Template(files("assistant.tuning").joinpath("cards", f"{name}.md").read_text("utf-8"))
    text = template.substitute({**told, "tenant": tenant, "version": version})
    making = folder / f".{target.name}.{os.getpid()}"
    make_private_folder(making)
    try:
        for file, written in {**content, MANIFEST: raw, CARD: text.encode()}.items():
            write_private(making / file, written)
        making.rename(target)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return target


def as_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return JSON lines with sorted keys."""
    return b"".join(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) + b"\n" for row in rows)


def counts_told(counts: Mapping[str, int]) -> str:
    """Return the counts that are not 0, by name, for a data card."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count) or "none"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows))


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
PAIR_COLUMNS = ("split", "pairs", "documents", "kinds")
_PAIRS_SEED = "pairs"
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
            splits[_pair_split(pair.document_id, rules)].append(pair)
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


def _pair_split(document_id: str, rules: PairRules) -> PairSplit:
    drawn = int.from_bytes(hashlib.sha256(f"{_PAIRS_SEED}:{document_id}".encode()).digest()[:4], "big")
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
    drawn = random.Random(f"{_PAIRS_SEED}:{passage.passage_id}")  # noqa: S311 : no secret
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
