"""Rebuilds the prompts of answers, and writes training sets with a data card: versioned, never changed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from assistant.answering.evidence import DOCUMENTS_READ
from assistant.answering.ports import AnswerRecords, ChatMessage, DocumentTexts
from assistant.answering.prompt import document_text, load_prompt, neutralise, user_text
from assistant.domain.errors import ConflictError
from assistant.private_files import make_private_folder, write_private
from assistant.tuning.training_sets import SPLITS, SetRules, Sets, preference_row, supervised_row

CARD = "card.md"
MANIFEST = "manifest.json"
_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS


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

    Raises ConflictError when the folder exists with other content, OSError.
    """
    manifest = {
        "schema_version": 1,
        "tenant": facts.tenant,
        "window": [facts.since.isoformat(), facts.until.isoformat()],
        "prompt": facts.prompt_id,
    }
    return write_folder(
        _files(sets), folder, tenant=facts.tenant, manifest=manifest, card=partial(_card, sets, facts)
    )


def write_folder(
    files: Mapping[str, bytes],
    folder: Path,
    *,
    tenant: str,
    manifest: Mapping[str, Any],
    card: Callable[[str], str],
) -> Path:
    """Write a set's files, its manifest with their hashes and its card (``card``: of the version).

    Returns the new folder ``TENANT-VERSION``. The same content is the same folder, which is left as it is. A
    folder appears whole or not at all. Raises ConflictError when it exists with other content, OSError.
    """
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    raw = orjson.dumps({**manifest, "files": hashes}, option=_OPTIONS) + b"\n"
    version = hashlib.sha256(raw).hexdigest()
    target = folder / f"{tenant}-{version[:12]}"
    if target.exists():
        if (target / MANIFEST).read_bytes() != raw:
            raise ConflictError(f"{target} has another manifest: it was changed. Move it away and retry.")
        return target
    making = folder / f".{target.name}.{os.getpid()}"
    make_private_folder(making)
    try:
        for name, content in (*files.items(), (MANIFEST, raw), (CARD, card(version).encode())):
            write_private(making / name, content)
        making.rename(target)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return target


def _files(sets: Sets) -> Mapping[str, bytes]:
    files: dict[str, bytes] = {}
    for split in SPLITS:
        examples = sets.examples[split]
        preferences = [row for row in map(preference_row, examples) if row is not None]
        files[f"sft.{split}.jsonl"] = as_lines([supervised_row(one) for one in examples])
        files[f"preference.{split}.jsonl"] = as_lines(preferences)
    return files


def as_lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return JSON lines with sorted keys."""
    return b"".join(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) + b"\n" for row in rows)


def _card(sets: Sets, facts: SetFacts, version: str) -> str:
    """Return the data card, by the questions of Gebru et al., "Datasheets for datasets" (2021)."""
    rules = facts.rules
    splits = "\n".join(
        f"| {name} | {len(sets.examples[name])} | "
        f"{sum(one.rejected is not None for one in sets.examples[name])} | "
        f"{len({one.document_id for one in sets.examples[name]})} |"
        for name in SPLITS
    )
    origins = Counter(one.origin.value for name in SPLITS for one in sets.examples[name])
    return f"""# Training sets of {facts.tenant}

Version `{version}` (SHA-256 of {MANIFEST}). This folder is never changed; a new export is a new folder.

| split | examples | preferences | documents |
| --- | --- | --- | --- |
{splits}

## Where they come from
{facts.events} feedback events from {facts.since:%Y-%m-%d} to {facts.until:%Y-%m-%d} (end excluded). Purpose
of the collection, as the agents were told: {facts.purpose.rstrip(".") or "not stated in the tenant file"}.
Texts that people stand behind: {counts_said(origins)}. Each line names its answer and its events.

## What is in a line
`sft.*`: `prompt` (prompt file `{facts.prompt_id}`, the sources as they are now, the question) and
`completion`. `preference.*`: `prompt`, `chosen`, and the replaced draft as `rejected`. Both in TRL's
conversational form.

## What was left out
{counts_said(sets.left_out)}.
- An example needs {rules.least_marks} marks or more on near-identical questions, of which
  {rules.least_agreement:.0%} or more agree on the document; an approved text needs none.
- A chosen text has no number, dose or code that its sources do not hold, and its answer quoted a document.
- Near-duplicates: MinHash similarity of word triples from {rules.similar_from}.
- A document is either tested or trained, never both; the newest {rules.newest_share:.0%} of the window
  validates; no question in train is near one in test.

## Patients' data
Replaced before the events left the service, and looked for again at this export:
{counts_said(sets.replaced)}. No filter finds everything: treat these files as PHI.

## Limits
Agents mark what they notice: an unmarked answer is not a good one. Erasing a patient or withdrawing a
document takes its texts out of the next export, not out of this folder: delete the folder, and models
trained on it, when an erasure asks for it.
"""


def counts_said(found: Mapping[str, int]) -> str:
    """Return the counts that are not 0, by name, for a data card."""
    return ", ".join(f"{name} {count}" for name, count in sorted(found.items()) if count) or "none"
