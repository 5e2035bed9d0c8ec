"""Documents of a made-up company for corpora, files of kept vectors, and what older readers and the first
release left."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from assistant.documents.files import SourceDocument
from assistant.documents.sources import KnowledgeSources
from assistant.domain.answers import (
    Act,
    AgentAct,
    AnswerRecord,
    ApprovedUse,
    Cell,
    CitedUnit,
    Reading,
    Sentence,
    StoredAct,
    Support,
)
from assistant.domain.audit import AccessEntry
from assistant.domain.desk import Case, CaseReason, DeskItem, DeskKind
from assistant.domain.documents import Document, DocumentState, DocumentStatus, Loading, OriginalFile
from assistant.stores.index.kept_vectors import KEY_BYTES, key_of
from assistant.tenant.tenant import SourceEntry, TenantConfig
from tests.contracts.samples import NOON, answer

# --- a made-up company ------------------------------------------------------------------------------------
TENANT = TenantConfig(
    schema_version=1,
    name="clinic",
    display_name="Clinic",
    labels=("hr",),
    sources=(
        SourceEntry(name="handbook", namespace="", access="everyone", licence="own texts"),
        SourceEntry(name="wiki", access="everyone"),
    ),
)
SOURCES = KnowledgeSources.of(TENANT)
_WORDS = [f"{first}{last}" for first in "bdfgklmnprst" for last in ("ala", "eno", "iri", "oru", "una", "ate")]
_AT = datetime(2026, 11, 20, tzinfo=UTC)


def documents(count: int) -> Iterator[Document]:
    """Yield as many documents. Of ten, one is a near-duplicate of the one before it, one its copy under
    another id, one has a label, one is too short for a row."""
    words = random.Random(7)  # noqa: S311 - the same texts each time
    text = ""
    for number in range(count):
        kind = number % 10
        if kind == 4:
            text = text.replace(text.split()[3], "changed", 1)
        elif kind == 8:
            text = "Too short"
        elif kind != 6:
            sentences = (" ".join(words.choices(_WORDS, k=12)) for _ in range(words.randrange(6, 14)))
            text = ". ".join(sentences).capitalize() + "."
        source = "wiki:" if number % 3 == 0 else ""
        yield _document(f"{source}d{number:06}", text, number % 3, labels=("hr",) if kind == 2 else ())


def _document(document_id: str, text: str, form: int, *, labels: tuple[str, ...]) -> Document:
    bodies = (
        (text, "text/plain"),
        (f"# About it\n\n{text}\n", "text/markdown"),
        (f"<html><body><h1>About it</h1><p>{text}</p></body></html>", "text/html"),
    )
    content, media_type = bodies[form]
    fields = {"document_id": document_id, "title": f"About {document_id}", "content": content}
    return Document.model_validate({**fields, "media_type": media_type, "labels": labels})


def statuses(found: Iterable[Document], state: DocumentState = DocumentState.LIVE) -> list[DocumentStatus]:
    """Return the rows of documents whose content answers unless the state says otherwise."""
    return [
        DocumentStatus(
            document_id=document.document_id,
            title=document.title,
            state=state,
            content_hash=document.content_hash(),
            live_content_hash=document.content_hash(),
            received_at=_AT,
            updated_at=_AT,
            labels=document.labels,
            live_labels=document.labels,
        )
        for document in found
    ]


# --- older readers ----------------------------------------------------------------------------------------
HASH = Document.content_hash


@contextmanager
def older_readers() -> Iterator[None]:
    """Let contents have the hash that releases gave them which did not count their readers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Document, "content_hash", lambda document: HASH(document, reading=0))
        yield


def converted_before(name: str, text: str, raw: bytes) -> SourceDocument:
    """Return the document that older readers made of a file: ``text``, whatever is in it."""
    original = OriginalFile(name=name, sha256=hashlib.sha256(raw).hexdigest(), size_bytes=len(raw))
    document = Document(
        document_id=name,
        title=name.partition(".")[0],
        content=text,
        media_type="text/markdown",
        original=original,
    )
    return SourceDocument(document, name)


# --- kept vectors -----------------------------------------------------------------------------------------
_LARGEST = 127


def write_kept_vectors(path: Path, vectors: Mapping[str, Sequence[float]], *, model_digest: str) -> None:
    """Write the vectors by text, shape (texts, dimensions). The same arguments give the same bytes."""
    texts = {key_of(text): text for text in vectors}
    keys = sorted(texts)
    exact = np.asarray([vectors[texts[key]] for key in keys], np.float32)
    scales = np.abs(exact).max(axis=1) / _LARGEST
    content = {
        "model_digest": np.asarray(model_digest),
        "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES),
        "scales": scales,
        "values": np.rint(exact / scales[:, None]).astype(np.int8),
    }
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **content)


# --- rows of the first release ----------------------------------------------------------------------------
FOLDER = Path(__file__).parents[1] / "data" / "release_before"
"""Written by that release (format 1, f1d3ccb4), whose tables are still served."""
_SCHEMAS: dict[str, Any] = json.loads((FOLDER / "schemas.json").read_bytes())
ANSWER: dict[str, Any] = json.loads((FOLDER / "answer.json").read_bytes())


def refusals(model: str, body: str | bytes) -> list[str]:
    """Return why the release before would not read a row."""
    validator = Draft202012Validator(_SCHEMAS[model])
    return [error.message for error in validator.iter_errors(json.loads(body))]  # pyright: ignore[reportUnknownMemberType]


def new_answer(answer_id: str = "new") -> AnswerRecord:
    """Return an answer with every field that the release before does not know."""
    sentence = Sentence(index=0, start=0, end=4, citations=(1,), support=Support.SUPPORTED)
    added = {"detail": "check", "values": ("24",), "cited": (CitedUnit(n=1, start=0, end=4),), "is_key": True}
    row = (Cell(name=(0, 1), value=(3, 4)),)
    more = {
        "sentences": (sentence, sentence.model_copy(update=added | {"cells": row})),
        "reading": Reading(questions=("When?",), items=("79",)),
        "red_flags": ("overdose",),
        "offered": ApprovedUse(item_id="approved", revision=2),
        "degraded": ("reranking",),
        "loading": (Loading(reason="lost", source="", live=1, expected=2),),
        "variant": "Canary",
    }
    return answer(answer_id).model_copy(update=more)


def new_act(answer_id: str = "new") -> StoredAct:
    act = Act(act_id="used", kind=AgentAct.OFFERED_USED)
    return StoredAct(answer_id=answer_id, agent="ana", at=NOON, act=act)


def new_access() -> AccessEntry:
    return AccessEntry(at=NOON, agent="ana", kind="release", subject_id="procedures")


def new_case(item_id: str = "case") -> DeskItem:
    case = Case(
        answer_id="new", reason=CaseReason.REVIEW_DUE, opened_at=NOON, same_hash="h", joined="earlier"
    )
    return case_item(item_id, case)


def case_item(item_id: str, case: Case) -> DeskItem:
    body = case.model_dump_json()
    return DeskItem(kind=DeskKind.CASE, item_id=item_id, revision=1, at=NOON, by="learner", body=body)
