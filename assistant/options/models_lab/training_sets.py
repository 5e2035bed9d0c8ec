"""Exports what models are tuned on as folders of files with a data card: versioned, never changed.

Training sets hold what agents did: supervised examples and preferences in TRL's conversational form, as
``KIND.SPLIT.jsonl``, a manifest with the files' hashes, and a card by the questions of Gebru et al.,
"Datasheets for datasets" (2021). A line of ``preference.train.jsonl``, shortened:

    {"prompt": [{"role": "system", …}, {"role": "user", …}],
     "chosen": [{"role": "assistant", "content": "Keep it between 2 and 8 °C."}],
     "rejected": [{"role": "assistant", "content": "Keep it cool."}],
     "provenance": {"answer_id": "4f1e…", "origin": "sent", "agreement": 1.0, "events": ["5d0c…"], …}}

``sft.train.jsonl`` has ``completion`` in place of ``chosen`` and ``rejected``.

An example's prompt is what a model reads for the question; its completion is a text that people stand behind:
approved at the desk, sent, or marked good. A preference has the draft that they replaced as rejected. Texts
come from the sealed feedback: what was erased or withdrawn cannot be read, and so is never part of a new set.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from importlib.resources import files
from itertools import compress
from pathlib import Path
from string import Template
from typing import Any, Literal

import orjson
from rapidfuzz.distance import Levenshtein

from assistant.answer.conversation import Conversation
from assistant.answer.prompt import (
    DOCUMENTS_IN_PROMPT,
    PROMPT,
    desk_lines,
    document_text,
    fill_slots,
    load_prompt,
)
from assistant.domain.answers import VerdictLabel
from assistant.domain.desk import ItemState
from assistant.domain.errors import ConflictError, InvalidRequestError
from assistant.options.desk.approved import ApprovedAnswer
from assistant.options.desk.events import FeedbackEvent, FeedbackKind, FeedbackText, PatientDataFilter
from assistant.options.desk.section import DeskSection
from assistant.options.models_lab.corpus import SIMILAR_FROM, word_triples
from assistant.options.reply.prompt import PROMPT as REPLY_PROMPT
from assistant.options.reply.prompt import read_lines, reply_messages
from assistant.process.private_files import make_private_folder, write_private
from assistant.stores.ports import ChatMessage, DocumentTexts
from assistant.stores.records import StoredRecords
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import has_unsupported_numbers, quantities

LEAST_AGREEMENT = 0.66
"""Share of the marks on near-identical questions that must agree on the document; an approved text needs
none."""
LEAST_EDIT = 0.1
"""Share of words that must differ for the draft to count as rejected."""
NEWEST_SHARE = 0.2
"""Share of the time between the first and the last example, its end, that validates and never trains."""
_MARKS = frozenset({FeedbackKind.VERDICT, FeedbackKind.SENT})
_TEST_OF = 10
"""One document of so many belongs to the test split."""


class Origin(StrEnum):
    """Why people stand behind a text, the strongest first: of near-duplicates the stronger one stays."""

    APPROVED = "approved"
    BETTER_TEXT = "better_text"
    SENT = "sent"
    MARKED_GOOD = "marked_good"


Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
CARD, MANIFEST = "card.md", "manifest.json"
COLUMNS = ("split", "examples", "preferences", "documents")
"""Of ``Export.rows``: a split with its numbers of examples, of preferences and of documents."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question with the text that people stand behind."""

    answer_id: str
    document_id: str
    """The document that the answer quoted first: all its examples are in one side of the split."""
    at: datetime
    question: str
    prompt: tuple[ChatMessage, ...]
    """What a model reads: the last message has the documents and the question. Empty until ``build_sets``
    fills it in."""
    chosen: str
    """The text that people stand behind."""
    rejected: str | None
    """The draft, where people replaced it. Until ``build_sets`` compares it with ``chosen``, the draft that
    the agent saw; None without one."""
    origin: Origin
    agreement: float
    """Share of the marks on answers to near-identical questions that agree, 0 to 1."""
    events: tuple[str, ...]
    """Ids of the events that it rests on."""
    reply_id: str | None = None
    """Record of the reply, where a reply was sent: what a model reads is the reply's."""


PromptOf = Callable[[str, str], Awaitable[tuple[ChatMessage, ...] | None]]
"""Returns what a model reads for an answer or reply (its id) and question; None where its record or one of
its documents is gone."""


@dataclass(slots=True)
class Sets:
    """The examples by split, and how many were left out, by reason."""

    examples: Mapping[Split, Sequence[Example]]
    events: int
    """Number of events that they were made of."""
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
    left_out: Counter[str] = Counter()  # each step below counts what it leaves out
    replaced: Counter[str] = Counter()
    # Until the loop an example has its draft as ``rejected``, and no prompt.
    drafts = _drafts(events, texts, approved, left_out)
    drafts = [_without_patients_data(draft, patients_data, replaced) for draft in drafts]
    agreed = _agreeing(drafts, left_out)
    distinct = _without_duplicates(agreed, left_out)
    whole: list[Example] = []
    for example in distinct:
        messages = await prompt_of(example.reply_id or example.answer_id, example.question)
        if messages is None:
            left_out["its document or record is gone"] += 1
            continue
        # a number, dose or code that the prompt does not hold would teach a model to invent
        held = quantities(messages[-1].content)
        if not example.document_id or has_unsupported_numbers(quantities(example.chosen), held):
            left_out["its sources do not hold what it says"] += 1
            continue
        whole.append(replace(example, prompt=messages, rejected=_rejected(example)))
    return Sets(_split(whole, left_out), len(events), left_out, replaced)


def supervised_row(example: Example) -> dict[str, Any]:
    """Return one line of an SFT set: ``prompt`` and ``completion`` as conversations, and the provenance."""
    return _row(example, completion=example.chosen)


def preference_row(example: Example) -> dict[str, Any] | None:
    """Return one line of a preference set; None for an example that replaced no draft."""
    if example.rejected is None:
        return None
    return _row(example, chosen=example.chosen, rejected=example.rejected)


def _row(example: Example, **texts: str) -> dict[str, Any]:
    """Return a line with the prompt, each text as a turn of the assistant, and the provenance."""
    return {
        "prompt": example.prompt,
        **{name: [{"role": "assistant", "content": text}] for name, text in texts.items()},
        "provenance": {
            "answer_id": example.answer_id,
            "task": "answer" if example.reply_id is None else "reply",
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
    """Return an example for each answer that people marked and each whose reply they sent, in the order of
    time.

    An answer and the reply that was written from it are two examples, each with its own marks. An approved
    answer counts for the answer alone.
    """
    marks_of: dict[tuple[str, bool], list[FeedbackEvent]] = defaultdict(list)  # by answer, and "is a reply"
    for event in sorted(events, key=lambda event: (event.at, event.event_id)):
        if event.kind in _MARKS:
            marks_of[event.answer_id, event.reply_id is not None].append(event)
    live = {item.from_answer: item for item in approved if item.state is ItemState.LIVE and item.from_answer}
    examples: list[Example] = []
    for (answer_id, is_reply), marks in marks_of.items():
        readable = [(mark, texts[mark.text_id]) for mark in marks if mark.text_id and mark.text_id in texts]
        if not readable:
            left_out["its text is erased or was not kept"] += 1
            continue
        chosen = _chosen(readable, None if is_reply else live.get(answer_id))
        if chosen is None:
            left_out["nobody stands behind a text"] += 1
            continue
        origin, text, its_events = chosen
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
                events=tuple(event.event_id for event in its_events),
                reply_id=its_events[-1].reply_id,
            )
        )
    return examples


def _chosen(
    marks: Sequence[tuple[FeedbackEvent, FeedbackText]], approved: ApprovedAnswer | None
) -> tuple[Origin, str, list[FeedbackEvent]] | None:
    """Return the text that people stand behind, and the events that say so; None without one.

    ``marks``: of one answer, by time, each with its words. In this order: the approved answer; the better
    text of a last verdict "bad"; the last sent text, unless the last verdict is "bad" and no sent text was
    edited, or it keeps an unsupported sentence; the shown text of a last verdict that is not "bad".
    """
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
    """Return the example without the patients' data that the filter finds now, which an older release of it
    may have missed. Add what it finds to ``replaced``."""

    def clean(text: str) -> str:
        result = patients_data.replace(text)
        replaced.update(result.found)
        return result.text

    rejected = None if example.rejected is None else clean(example.rejected)
    return replace(example, question=clean(example.question), chosen=clean(example.chosen), rejected=rejected)


def _rejected(example: Example) -> str | None:
    """Return the draft if the chosen text differs enough from it (``LEAST_EDIT``), else None."""
    if example.rejected is None:
        return None
    distance = Levenshtein.normalized_distance(example.rejected.split(), example.chosen.split())
    return example.rejected if distance >= LEAST_EDIT else None


# Agreement, near-duplicates, splits


def _agreeing(examples: Sequence[Example], left_out: Counter[str]) -> list[Example]:
    """Return the examples whose document most marks on near-identical questions agree on, each with its
    share of the marks; approved ones as they are."""
    question_families = families([example.question for example in examples])
    marks_by_document: dict[int, Counter[str]] = defaultdict(Counter)
    for family, example in zip(question_families, examples, strict=True):
        marks_by_document[family][example.document_id] += len(example.events)
    kept: list[Example] = []
    for family, example in zip(question_families, examples, strict=True):
        marks = marks_by_document[family]
        share = marks[example.document_id] / marks.total()
        if example.origin is Origin.APPROVED:
            kept.append(example)
        elif share < LEAST_AGREEMENT:
            left_out["marks disagree"] += 1
        else:
            kept.append(replace(example, agreement=share))
    return kept


def _without_duplicates(examples: Sequence[Example], left_out: Counter[str]) -> list[Example]:
    """Return one example of each group of near-duplicates: that of the strongest origin, of these the latest.
    An answer and a reply are never near-duplicates."""
    text_families = families([f"{example.question}\n{example.chosen}" for example in examples])
    order = list(Origin)
    best: dict[tuple[int, bool], int] = {}  # position in ``examples``, by group
    for at, (family, example) in enumerate(zip(text_families, examples, strict=True)):
        group = family, example.reply_id is None
        before = best.get(group)
        if before is None or order.index(example.origin) <= order.index(examples[before].origin):
            best[group] = at
    left_out["near-duplicates"] += len(examples) - len(best)
    return [examples[at] for at in sorted(best.values())]


def _split(examples: Sequence[Example], left_out: Counter[str]) -> Mapping[Split, Sequence[Example]]:
    """Split by document and by time: no document is in train and test, no training example is newer than a
    validating one, and no question in train is a near-duplicate of one in test."""
    if not examples:
        return dict.fromkeys(SPLITS, ())
    first, last = min(example.at for example in examples), max(example.at for example in examples)
    cut = last - (last - first) * NEWEST_SHARE
    question_families = families([example.question for example in examples])
    is_tested = [_is_tested(example.document_id) for example in examples]
    tested_families = set(compress(question_families, is_tested))
    split: dict[Split, list[Example]] = {name: [] for name in SPLITS}
    for family, is_in_test, example in zip(question_families, is_tested, examples, strict=True):
        if is_in_test:
            split["test"].append(example)
        elif family in tested_families:
            left_out["its question is near one of the test split"] += 1
        else:
            split["validation" if example.at > cut else "train"].append(example)
    return split


def _is_tested(document_id: str) -> bool:
    """Return whether a document's examples test: by the hash of its id, so the same in every set."""
    return int.from_bytes(hashlib.sha256(document_id.encode()).digest()[:4], "big") % _TEST_OF == 0


# Near-duplicates


class Alike:
    """Sets of parts, with an index by part: only those that share one are compared.

    >>> alike = Alike(0.5)
    >>> alike.add(frozenset("abc"))
    >>> alike.of(frozenset("abd")), alike.of(frozenset("xyz"))
    ([0], [])
    """

    def __init__(self, similar_from: float) -> None:
        """``similar_from``: Jaccard similarity from which two sets are alike: common parts by all parts."""
        self._similar_from = similar_from
        self._sets: list[frozenset[str]] = []
        self._holding: defaultdict[str, list[int]] = defaultdict(list)
        """Part = numbers of the sets that hold it."""

    def add(self, parts: frozenset[str]) -> None:
        """Add a set; its number is how many were added before."""
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
    word triples, case and white space aside, and whatever is alike to one of them.

    >>> families(["Is it cold now?", "How late is it?", "is it  cold NOW?"])
    [0, 1, 0]
    """
    index, numbers = Alike(SIMILAR_FROM), list[int]()
    for at, text in enumerate(texts):
        triples = word_triples(text)
        joined = {numbers[other] for other in index.of(triples)}
        first = min(joined, default=at)
        # A text that is alike to members of several families makes one family of them.
        numbers = [first if old in joined else old for old in numbers] if len(joined) > 1 else numbers
        numbers.append(first)
        index.add(triples)
    return numbers


# Prompts and files


async def recorded_prompt(
    record_id: str, question: str, *, tenant: TenantConfig, records: StoredRecords, texts: DocumentTexts
) -> tuple[ChatMessage, ...] | None:
    """Return what a model would read for a recorded answer or reply, of the documents as they are; None where
    the record or the content of a source is gone. The chat, live values and a reply's draft are not kept.

    ``question``: without patients' data. ``records`` and ``texts`` are asked by the id of the record; a
    document is read with the access labels of the agent who asked.
    """
    record = await records.get_answer(record_id)
    if record is None:
        return None
    labels, answers = frozenset(record.labels), tenant.answers
    block = Conversation((), asked=question).block(
        company=tenant.display_name,
        today=None,
        meanings={},
        days=(),
        count=len,
        most_tokens=sys.maxsize,
    )
    if record.reply_to is not None:
        tokens = tenant.generation.context_tokens
        lines = await read_lines(record, record.quoted, texts=texts, labels=labels, context_tokens=tokens)
        if lines is None:
            return None
        return reply_messages(block, "", lines, tone=answers.tone, language=tenant.language)
    numbered: list[str] = []
    for use in record.passages[:DOCUMENTS_IN_PROMPT]:
        document = await texts.read(use.document_id, use.content_hash, labels=labels)
        if document is None:
            return None
        numbered.append(document_text(len(numbered) + 1, use.title, document.units))
    template = load_prompt(PROMPT)
    slots = {"documents": "\n\n".join(numbered), "conversation": block}
    user = fill_slots(template, {**slots, "desks": desk_lines(answers.desks)})
    return ChatMessage("system", template.system), ChatMessage("user", user)


def export_of_sets(sets: Sets, *, tenant: TenantConfig, window: tuple[datetime, datetime]) -> Export:
    """Return the files, manifest and card of the sets. ``window``: first and last time of their events.
    Raises InvalidRequestError where no example is left."""
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
    all_examples = [example for examples in sets.examples.values() for example in examples]
    return Export(
        tenant=tenant.name,
        content=content,
        manifest={"window": window, "prompt": PROMPT, "reply_prompt": REPLY_PROMPT},
        rows=rows,
        left_out=sets.left_out,
        told={
            "events": sets.events,
            "since": f"{window[0]:%Y-%m-%d}",
            "until": f"{window[1]:%Y-%m-%d}",
            "purpose": DeskSection.of(tenant).feedback.purpose.rstrip(".") or "not stated in the tenant file",
            "origins": counts_told(Counter(example.origin.value for example in all_examples)),
            "replaced": counts_told(sets.replaced),
            "prompt_id": PROMPT,
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
    content: Mapping[str, bytes]
    """Files by name."""
    manifest: Mapping[str, Any]
    rows: Sequence[Sequence[str]]
    """Cells of ``COLUMNS``, a row for each split: what the card tells, and the command."""
    left_out: Mapping[str, int]
    told: Mapping[str, object]
    """Values of the names in ``cards/training_sets.md``, but for those that ``_card`` adds."""

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
        draft = folder / f".{target.name}.{os.getpid()}"
        make_private_folder(draft)
        try:
            for file, content in {**self.content, MANIFEST: raw, CARD: self._card(version)}.items():
                write_private(draft / file, content)
            draft.rename(target)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return target

    def _card(self, version: str) -> bytes:
        """Return ``card.md``: the template with the values of ``told``, the table of rows and the version."""
        template = files("assistant.options.models_lab").joinpath("cards", "training_sets.md")
        rows = (COLUMNS, ["---"] * len(COLUMNS), *self.rows)
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        left_out = counts_told(self.left_out)
        told = {**self.told, "tenant": self.tenant, "version": version, "table": table, "left_out": left_out}
        return Template(template.read_text("utf-8")).substitute(told).encode()


def as_lines(rows: Iterable[object]) -> bytes:
    """Return JSON lines."""
    return b"".join(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) + b"\n" for row in rows)


def counts_told(counts: Mapping[str, int]) -> str:
    """Return the counts that are not 0, by name, for a data card: "marks disagree 3, near-duplicates 12"."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count) or "none"
