"""Which documents become rows of a corpus, which of them are near-duplicates, and how sources are mixed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from assistant.documents.parsing_process import ParsingProcess
from assistant.domain.documents import Document, DocumentState
from assistant.domain.errors import ConfigurationError
from assistant.options.models_lab import corpus
from assistant.options.models_lab.corpus import Candidate, CorpusRow, CorpusText, WantedDocument
from assistant.stores.blobs import FolderBlobs
from assistant.stores.documents import StoredDocuments, StoredStates
from assistant.stores.sqlite_table import SqliteTable
from tests.stage.knowledge import SOURCES, documents, statuses

MIX = {"handbook": 1.0, "wiki": 1.0}


@pytest.fixture
async def states(tmp_path: Path) -> AsyncIterator[StoredStates]:
    opened_table = SqliteTable(tmp_path / "states.sqlite")
    opened = StoredStates(opened_table)
    yield opened
    await opened_table.close()


def candidate(text: str, document_id: str, *, labels: tuple[str, ...] = (), weight: float = 1.0) -> Candidate:
    row = CorpusRow(text, "T", document_id, "handbook", "hash", labels, "", None)
    found = CorpusText(row, corpus.signature_of(text))
    return corpus.candidate_of(found, mix={"handbook": weight})


def left_out(*bucket: Candidate) -> list[str]:
    return list(corpus.duplicates_in(bucket))


def text_of(seed: int, words: int = 100) -> list[str]:
    return [f"w{number}" for number in random.Random(seed).choices(range(10_000), k=words)]  # noqa: S311


NEAR, FIRST = text_of(1), " ".join(text_of(1))
NEAR[50] = "changed"
SECOND = " ".join(NEAR)


@pytest.mark.parametrize(
    ("state", "waits_for"),
    [(state, None) for state in DocumentState] + [(DocumentState.WITHHELD, "another person")],
)
async def test_only_what_answers_now_is_wanted(
    states: StoredStates, state: DocumentState, waits_for: str | None
) -> None:
    (status,) = statuses(documents(1), state)
    await states.put_many([status.model_copy(update={"brought_by": waits_for})])

    wanted = [
        each async for page in corpus.wanted_documents(states, sources=SOURCES, mix=MIX) for each in page
    ]

    hidden = state in (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
    assert [each.document_id for each in wanted] == ([] if hidden else [status.document_id])


async def read(folder: Path, found: Sequence[Document], *changed: Document) -> list[CorpusText | str]:
    """Return what becomes of documents that changed in the store after they were listed."""
    store = StoredDocuments(FolderBlobs(folder))
    wanted = [WantedDocument(each.document_id, each.content_hash(), "handbook", "") for each in found]
    for document in (*found, *changed):
        await store.put(document)
    with ParsingProcess() as parsing:
        return await corpus.read_texts(wanted, documents=store, parsing=parsing)


async def test_a_row_has_the_content_that_answered_although_a_newer_one_came(tmp_path: Path) -> None:
    plain, markdown, labelled = list(documents(3))
    newer = markdown.model_copy(update={"content": "Not released by anybody, and not in force yet."})

    texts = await read(tmp_path, [plain, markdown, labelled], newer)

    rows = [text.row for text in texts if isinstance(text, CorpusText)]
    assert [(row.document_id, row.labels, row.content_hash) for row in rows] == [
        (each.document_id, each.labels, each.content_hash()) for each in (plain, markdown, labelled)
    ]
    assert rows[1].text.startswith("About it\n\n")
    assert rows[2].labels == ("hr",)
    assert "<p>" not in rows[2].text


async def test_a_document_that_was_withdrawn_meanwhile_has_no_row(tmp_path: Path) -> None:
    (document,) = documents(1)
    wanted = WantedDocument(document.document_id, document.content_hash(), "handbook", "")
    with ParsingProcess() as parsing:
        left = await corpus.read_texts(
            [wanted], documents=StoredDocuments(FolderBlobs(tmp_path)), parsing=parsing
        )
    assert left == ["withdrawn or replaced meanwhile"]


async def test_documents_without_text_have_no_row_and_stop_no_other(tmp_path: Path) -> None:
    fields = {"title": "T", "media_type": "text/html"}
    empty = Document.model_validate({**fields, "document_id": "empty", "content": "<p></p>"})
    short = Document.model_validate({**fields, "document_id": "short", "content": "<p>Call us.</p>"})
    (whole,) = documents(1)

    texts = await read(tmp_path, [empty, short, whole])

    assert texts[:2] == ["unreadable", "shorter than 5 words"]
    assert isinstance(texts[2], CorpusText)


def test_of_near_duplicates_the_lowest_id_stays() -> None:
    assert left_out(candidate(SECOND, "b"), candidate(FIRST, "a"), candidate(FIRST, "c")) == ["b", "c"]


def test_a_text_for_every_agent_stays_before_a_restricted_one_and_a_weighty_one_before_others() -> None:
    assert left_out(candidate(FIRST, "a", labels=("hr",)), candidate(SECOND, "b")) == ["a"]
    assert left_out(candidate(FIRST, "a"), candidate(SECOND, "b", weight=2.0)) == ["a"]


def test_signatures_find_near_duplicates_and_little_else() -> None:
    """By 400 pairs of a known similarity, against the word triples themselves."""
    found = {"alike": 0, "unlike": 0}
    pairs = {"alike": 0, "unlike": 0}
    for seed in range(400):
        words = text_of(seed)
        other = [*words[: 99 - seed % 60], *text_of(seed + 1000)[99 - seed % 60 :]]
        first, second = " ".join(words), " ".join(other)
        one, two = corpus.word_triples(first), corpus.word_triples(second)
        similarity = len(one & two) / len(one | two)
        kind = "alike" if similarity >= 0.9 else "unlike" if similarity <= 0.6 else None
        if kind is None:
            continue
        pairs[kind] += 1
        signatures = corpus.signature_of(first), corpus.signature_of(second)
        meet = any(
            corpus.band_of(signatures[0], band) == corpus.band_of(signatures[1], band)
            for band in range(corpus.BANDS)
        )
        found[kind] += meet and bool(left_out(candidate(first, "a"), candidate(second, "b")))
    assert min(pairs.values()) > 30
    assert found == {"alike": pairs["alike"], "unlike": 0}


def test_a_weight_below_one_draws_a_share_that_a_larger_one_only_adds_to() -> None:
    rows = [CorpusRow("T", "T", f"d{number}", "wiki", "hash", (), "", None) for number in range(2000)]

    def drawn(weight: float) -> set[str]:
        chosen = [corpus.mixed(row, is_duplicate=False, mix={"wiki": weight}) for row in rows]
        assert {row.weight for row in chosen if isinstance(row, CorpusRow)} == {max(1.0, weight)}
        return {row.document_id for row in chosen if isinstance(row, CorpusRow)}

    assert len(drawn(0.3)) == pytest.approx(600, abs=60)
    assert drawn(0.3) < drawn(0.5) < drawn(1.0) == drawn(2.5)


@pytest.mark.parametrize("text", ["wiki", "wiki=", "wiki=-1", "wiki=nan", "wiki=101", "wiki=1e9", "=2"])
def test_a_weight_that_is_no_number_in_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write SOURCE=N with a number from 0 to 100\.$"):
        corpus.mix_of([text], sources=SOURCES)


async def test_a_new_document_and_a_source_without_weight_are_not_wanted(states: StoredStates) -> None:
    new, other, answering = statuses(list(documents(5))[1:4])
    await states.put_many([new.model_copy(update={"live_content_hash": None}), other, answering])

    wanted = corpus.wanted_documents(states, sources=SOURCES, mix={"handbook": 1.0, "wiki": 0.0})

    assert answering.document_id.startswith("wiki:")
    assert [each async for page in wanted for each in page] == [
        WantedDocument("d000002", other.content_hash, "handbook", "own texts")
    ]
