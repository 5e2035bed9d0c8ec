"""What the embedded index keeps on disk, what it leaves there, and what it repairs."""

from __future__ import annotations

import asyncio
import resource
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.domain.clock import SystemClock
from assistant.domain.documents import (
    IndexedDocument,
    Passage,
    PassageQuery,
    Retrieved,
    SearchFilters,
    SourceIds,
    Span,
    Unit,
    UnitKind,
)
from assistant.domain.errors import ConfigurationError, LocalRuntimeError, SearchUnavailableError
from assistant.stores.index import embedded_files as index_files
from assistant.stores.index import embedded_writer
from assistant.stores.index.embedded import EmbeddedPassageIndex
from assistant.stores.index.embedded_files import index_version
from assistant.stores.index.embedded_reader import IndexReader, IndexView
from assistant.stores.index.embedded_writer import LEXICAL_PREFIX
from tests.contracts.samples import EAST, NOON, NORTH, UP, between, card_of, indexed, passage, query
from tests.stage.tenant_stores import MODEL, IndexFolder

MARKER = "Quetzalcoatlus prescribes xylophonium"


@pytest.mark.parametrize("reader_is_open", [False, True])
async def test_a_deletion_leaves_nothing_on_disk(tmp_path: Path, reader_is_open: bool) -> None:
    opened = IndexFolder(tmp_path)
    await opened.put((passage("marked", text=MARKER), EAST), (passage("kept"), NORTH))
    assert opened.files_with(MARKER) != []
    assert opened.posted("xylophonium") == 1
    if reader_is_open:
        await opened.search(query("xylophonium"))
    await opened.index.delete_documents(["marked"])
    assert opened.files_with(MARKER) == []
    assert opened.posted("xylophonium") == opened.posted_texts("xylophonium") == 0
    assert opened.files_with("wait until day 24") != []
    assert opened.posted("until") == 1
    await opened.close()


@contextmanager
def most_file_bytes(count: int) -> Generator[None]:
    """A disk that is full: no file of this process grows beyond ``count`` bytes."""
    before = resource.prlimit(0, resource.RLIMIT_FSIZE, (count, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(0, resource.RLIMIT_FSIZE, before)


async def test_an_index_is_written_again_once_a_full_disk_has_room(tmp_path: Path) -> None:
    opened = IndexFolder(tmp_path)
    await opened.put(*((passage(f"first-{number}"), EAST) for number in range(20)))
    failures = 0
    for count in (0, 64, 256, 1024, 4096, 16384, 65536, 150_000):  # each fails at another point
        with most_file_bytes(count):
            for change in (
                opened.put((passage(f"full-{count}"), NORTH)),
                opened.index.delete_documents([f"first-{count % 19}"]),
                opened.index.optimize(),
                opened.put((passage("kept"), NORTH)),
            ):
                try:
                    await change
                except SearchUnavailableError:
                    failures += 1
        await opened.put((passage(f"room-{count}", text=MARKER), EAST))
        await opened.index.optimize()
        found = await opened.search(query("xylophonium"))
        assert f"room-{count}" in {hit.document_id for hit in found.documents}
    assert failures > 8
    await opened.close()


async def test_an_index_whose_writer_broke_is_written_by_a_new_one(tmp_path: Path) -> None:
    opened = IndexFolder(tmp_path)
    await opened.put((passage("first"), EAST), (passage("second"), EAST))
    (lexical,) = opened.lexical_folders()
    for leg in lexical.iterdir():
        shutil.rmtree(leg)
    with pytest.raises(SearchUnavailableError, match="gone"):
        await opened.put((passage("third"), NORTH))
    await opened.index.delete_documents(["second"])
    await opened.put((passage("room", text=MARKER), EAST), (passage("third"), NORTH))
    found = await opened.search(query("xylophonium"))
    assert {hit.document_id for hit in found.documents} == {"first", "third", "room"}
    await opened.close()


def marked_document() -> IndexedDocument:
    """A document whose marker stands in title, question, card and units, and in no passage's text."""
    unit = Unit(0, UnitKind.SENTENCE, MARKER, Span(0, 9), MARKER, terms=("xylophonium",))
    return indexed(
        (passage("marked", title=MARKER, text="Harmless.", units=(unit,)), EAST),
        questions={f"{MARKER}?": EAST},
        words=["xylophonium"],
        abbreviations=[("qx", MARKER)],
    )


def blobs(root: Path) -> list[bytes]:
    """Return the packed cards and units."""
    with closing(sqlite3.connect(folder_of(root) / index_files.PASSAGES_FILE)) as connection:
        cards = connection.execute("SELECT card FROM cards WHERE document_id = 'marked'").fetchall()
        units = connection.execute("SELECT units FROM passages WHERE document_id = 'marked'").fetchall()
    return [row[0] for row in (*cards, *units)]


@pytest.mark.parametrize("how", ["delete", "replace"])
async def test_nothing_of_titles_questions_cards_and_units_is_left_on_disk(tmp_path: Path, how: str) -> None:
    opened = IndexFolder(tmp_path)
    await opened.index.replace_documents([marked_document(), indexed((passage("kept"), NORTH))])
    packed = blobs(tmp_path)
    assert len(packed) == 2
    assert all(opened.files_holding(blob) for blob in packed)
    assert opened.posted_titles("xylophonium") == 2
    if how == "delete":
        await opened.index.delete_documents(["marked"])
    else:
        await opened.put((passage("marked", text="Now harmless."), EAST))
        await opened.index.optimize()
    assert opened.files_with(MARKER, "xylophonium") == []
    assert [opened.files_holding(blob) for blob in packed] == [[], []]
    assert (opened.posted_titles("xylophonium"), opened.posted_texts("xylophonium")) == (0, 0)
    assert opened.posted_titles("procedur") == (1 if how == "delete" else 2)
    await opened.close()


async def test_a_purge_that_was_not_reached_is_made_up_for(tmp_path: Path) -> None:
    opened = IndexFolder(tmp_path)
    await opened.put((passage("marked", text=MARKER), EAST), (passage("kept"), NORTH))
    await opened.put((passage("marked", text="Now harmless."), EAST))
    await opened.close()
    again = IndexFolder(tmp_path)
    await again.index.optimize()
    assert again.files_with(MARKER) == []
    assert again.posted("xylophonium") == 0
    await again.close()


async def test_optimizing_what_was_only_added_to_rewrites_nothing(tmp_path: Path) -> None:
    opened = IndexFolder(tmp_path)
    await opened.put((passage("first"), EAST))
    before = opened.lexical_folders()
    await opened.index.optimize()
    assert opened.lexical_folders() == before
    await opened.close()


def folder_of(root: Path) -> Path:
    return root / index_version(MODEL)


def write_rows_only(root: Path, text: str) -> None:
    """Do what a writer does before tantivy's commit, and no more: as if it was killed there."""
    connection = sqlite3.connect(folder_of(root) / index_files.PASSAGES_FILE, isolation_level=None)
    connection.execute("BEGIN")
    entry = passage("killed", text=text)
    document = IndexedDocument(card_of(entry), (EAST,), ((entry, EAST),))
    index_files.replace_rows(connection, {"killed": document}, dimensions=4, now=SystemClock().now())
    connection.execute("COMMIT")
    connection.close()


async def test_a_writer_killed_between_its_two_commits_is_healed(tmp_path: Path) -> None:
    opened = IndexFolder(tmp_path)
    await opened.put((passage("killed", text="Before zolpidem."), EAST), (passage("other"), NORTH))
    await opened.close()
    write_rows_only(tmp_path, "After warfarin.")
    again = IndexFolder(tmp_path)
    await again.index.info()
    for word, expected in (("warfarin", ["killed"]), ("zolpidem", [])):
        found = await again.search(query(word))
        assert [one.passage.document_id for one in found.passages if one.lexical_rank] == expected, word
    await again.close()


async def test_a_reader_between_the_two_commits_sees_the_new_text_alone(tmp_path: Path) -> None:
    opened = IndexFolder(tmp_path)
    await opened.put((passage("killed", text="Before zolpidem."), EAST))
    await opened.search(query("zolpidem"))
    write_rows_only(tmp_path, "After warfarin.")
    found = await opened.search(query("zolpidem"))
    assert [(one.passage.text, one.lexical_rank) for one in found.passages] == [("After warfarin.", None)]
    await opened.close()


async def test_postings_that_were_lost_are_built_anew(tmp_path: Path) -> None:
    opened = IndexFolder(tmp_path)
    await opened.put((passage("kept", text="Zolpidem."), EAST))
    await opened.close()
    (lexical,) = opened.lexical_folders()
    for path in lexical.glob("*/*"):
        path.unlink()
    again = IndexFolder(tmp_path)
    await again.index.info()
    found = await again.search(query("zolpidem"))
    assert found.passages[0].lexical_rank == 1
    await again.close()


async def test_a_reader_makes_no_folder(tmp_path: Path) -> None:
    opened = IndexFolder(tmp_path)
    await opened.put((passage("kept"), EAST))
    await opened.index.close()
    (lexical,) = opened.lexical_folders()
    for path in lexical.glob("*/*"):
        path.unlink()
    with pytest.raises(SearchUnavailableError):
        await opened.search(query())
    assert list(lexical.glob("*/*")) == []
    await opened.search_side.close()


async def test_postings_that_are_lost_while_the_index_is_open_are_built_anew(tmp_path: Path) -> None:
    opened = IndexFolder(tmp_path)
    await opened.put((passage("kept", text="Zolpidem."), EAST))
    (lexical,) = opened.lexical_folders()
    shutil.rmtree(lexical)
    with pytest.raises(SearchUnavailableError, match="is gone from"):
        await opened.put((passage("other"), NORTH))
    await opened.put((passage("other"), NORTH))
    assert opened.posted("zolpidem") == 1
    await opened.close()


async def test_a_folder_that_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    opened = IndexFolder(tmp_path)
    await opened.put((passage("kept"), EAST))
    await opened.close()
    left = folder_of(tmp_path) / "lexical-left"
    left.mkdir()
    again = IndexFolder(tmp_path)
    await again.index.info()
    assert not left.exists()
    await again.close()


async def test_postings_of_another_schema_are_built_again(tmp_path: Path) -> None:
    opened = IndexFolder(tmp_path)
    await opened.put((passage("wiki:kept"), EAST))
    await opened.close()
    (lexical,) = opened.lexical_folders()
    lexical.rename(lexical.with_name("lexical-0123abcd"))
    with sqlite3.connect(folder_of(tmp_path) / index_files.PASSAGES_FILE) as connection:
        index_files.write_meta(connection, lexical_folder="lexical-0123abcd")
    again = IndexFolder(tmp_path)
    await again.index.info()
    (built,) = again.lexical_folders()
    assert built.name.startswith(LEXICAL_PREFIX)
    found = await again.search(query("wait", ids=SourceIds("wiki:")))
    assert [hit.lexical_score is None for hit in found.hits] == [False]
    await again.close()


async def test_postings_without_codes_answer_until_others_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_writer, "CODES", "another field")
    monkeypatch.setattr(embedded_writer, "LEXICAL_PREFIX", "lexical-2-")
    opened, asked = IndexFolder(tmp_path), query("QX-1417")
    await opened.put((passage("first", text="Wait for QX-1417."), EAST))
    [before] = [hit.lexical_score or 0.0 for hit in (await opened.search(asked)).hits]
    await opened.close()
    monkeypatch.undo()
    again = IndexFolder(tmp_path)
    await again.index.info()
    [after] = [hit.lexical_score or 0.0 for hit in (await again.search(asked)).hits]
    assert after > before > 0.0
    await again.close()


async def test_a_write_while_a_reader_refreshes_is_found_by_the_next_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = IndexFolder(tmp_path)
    await opened.put((passage("first"), EAST))
    follow = IndexReader._refresh_lexical  # pyright: ignore[reportPrivateUsage]

    def write_meanwhile(follower: IndexReader, view: IndexView) -> None:
        monkeypatch.undo()
        asyncio.run(opened.put((passage("second"), EAST)))
        follow(follower, view)

    monkeypatch.setattr(IndexReader, "_refresh_lexical", write_meanwhile)
    await opened.search(query())
    found = await opened.search(query())
    assert [one.passage.document_id for one in found.passages] == ["first", "second"]
    await opened.close()


BEFORE_THE_FIRST_WRITE = """
CREATE TABLE spare AS SELECT * FROM passages;
CREATE TABLE spare_meta AS SELECT * FROM meta WHERE key LIKE 'lexical%';
DELETE FROM passages;
DELETE FROM meta WHERE key LIKE 'lexical%';
"""
THE_FIRST_WRITE = """
BEGIN;
INSERT INTO passages SELECT * FROM spare;
INSERT INTO meta SELECT * FROM spare_meta;
COMMIT;
"""


async def test_a_first_write_while_a_reader_opens_the_index_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = IndexFolder(tmp_path)
    await opened.put((passage("first"), EAST))
    path = folder_of(tmp_path) / index_files.PASSAGES_FILE
    read = index_files.read_meta

    def write_meanwhile(connection: sqlite3.Connection) -> index_files.IndexMeta:
        monkeypatch.undo()
        meta = read(connection)
        with closing(sqlite3.connect(path)) as other:
            other.executescript(THE_FIRST_WRITE)
        return meta

    with closing(sqlite3.connect(path)) as other:
        other.executescript(BEFORE_THE_FIRST_WRITE)
    monkeypatch.setattr(index_files, "read_meta", write_meanwhile)
    assert (await opened.search(query())).passages == ()
    found = await opened.search(query())
    assert [one.passage.document_id for one in found.passages] == ["first"]
    await opened.close()


KILLED_WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from tests.contracts.samples import EAST, passage
from tests.stage.tenant_stores import IndexFolder

async def main():
    opened = IndexFolder(Path(sys.argv[1]))
    for round_ in itertools.count():
        for number in range(5):
            name = f"d{number}"
            text = f"life{sys.argv[2]}round{round_}document{number} common{number}"
            await opened.put((passage(name, text=text), EAST))
            if number == 3:
                await opened.index.delete_documents(["d4"])
            print(name, flush=True)

asyncio.run(main())
"""


async def test_an_index_whose_writer_is_killed_at_any_moment_is_consistent(tmp_path: Path) -> None:
    for life in range(6):
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED_WRITER, str(tmp_path), str(life), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert writer.stdout is not None
            for _ in range(1 + 3 * life):  # where it is in its loop varies
                assert await asyncio.wait_for(writer.stdout.readline(), 30)
        finally:
            writer.kill()
            await writer.wait()
        opened = IndexFolder(tmp_path)
        await opened.index.info()  # opening heals
        everything = (await opened.search(query("nothing", size=50))).passages
        for one in everything:
            unique, common = one.passage.text.split()
            for word in (unique, common):
                hits = (await opened.search(query(word, size=50))).passages
                assert [hit.passage.text for hit in hits if hit.lexical_rank] == [one.passage.text]
        await opened.close()


async def test_two_writers_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.stores.index.embedded_writer.LOCK_TIMEOUT_S", 0.05)
    first = EmbeddedPassageIndex(tmp_path, model=MODEL)
    await first.info()
    second = EmbeddedPassageIndex(tmp_path, model=MODEL)
    with pytest.raises(LocalRuntimeError, match="Another worker writes the index"):
        await second.info()
    await first.close()
    assert (await second.info()).passage_count == 0
    await second.close()


@pytest.mark.parametrize(
    "vector", [(1.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 0.0), (float("nan"), 0.0, 0.0, 0.0)]
)
async def test_a_vector_that_does_not_fit_is_refused(tmp_path: Path, vector: tuple[float, ...]) -> None:
    opened = IndexFolder(tmp_path)
    with pytest.raises(ConfigurationError, match="4 finite numbers"):
        await opened.put((passage("refill"), vector))
    assert (await opened.search(query())).passages == ()
    await opened.close()


# --- any writes and any filters ---------------------------------------------------------------------------
SOURCES = ("wiki", "help", "x")
LABELS = ("a", "b", "*")

fields_of_a_passage = st.fixed_dictionaries(
    {
        "source": st.sampled_from(SOURCES),
        "type": st.sampled_from(SOURCES),
        "labels": st.lists(st.sampled_from(LABELS), max_size=2, unique=True).map(tuple),
        "updated_at": st.integers(0, 3).map(lambda day: NOON + timedelta(days=day)),
    }
)
passages_of_a_document = st.lists(fields_of_a_passage, max_size=3)
writes = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.none() | passages_of_a_document), min_size=1, max_size=14
)
filters = st.builds(
    SearchFilters,
    source=st.lists(st.sampled_from(SOURCES), max_size=2).map(tuple),
    type=st.lists(st.sampled_from(SOURCES), max_size=2).map(tuple),
    document_id=st.lists(st.sampled_from("abc"), max_size=2).map(tuple),
    updated_after=st.none() | st.integers(-1, 3).map(lambda day: NOON + timedelta(days=day)),
)
agent_labels = st.frozensets(st.sampled_from(LABELS), max_size=2)


def is_allowed(entry: Passage, asked: PassageQuery) -> bool:
    """The filter's meaning, said a third time, by the words of the requirement."""
    wanted = asked.filters
    return (
        (not entry.labels or bool(asked.labels & set(entry.labels)))
        and (not wanted.source or entry.source in wanted.source)
        and (not wanted.type or entry.type in wanted.type)
        and (not wanted.document_id or entry.document_id in wanted.document_id)
        and (wanted.updated_after is None or entry.updated_at > wanted.updated_after)
    )


def without_passages(document_id: str) -> IndexedDocument:
    return IndexedDocument(card=card_of(passage(document_id)), title_vectors=[EAST], passages=())


def leg(found: Retrieved, rank: str) -> set[str]:
    return {one.passage.passage_id for one in found.passages if getattr(one, rank) is not None}


@settings(max_examples=25, deadline=None)
@given(writes=writes, filters=filters, labels=agent_labels)
def test_after_any_writes_both_legs_hold_just_what_the_filter_allows(
    writes: list[tuple[str, list[dict[str, Any]] | None]], filters: SearchFilters, labels: frozenset[str]
) -> None:
    asked = query("day", filters=filters, labels=sorted(labels), size=100)
    with tempfile.TemporaryDirectory() as folder:
        kept, incremental, fresh = asyncio.run(run(Path(folder), writes, asked))
    expected = {entry.passage_id for entry in kept if is_allowed(entry, asked)}
    assert leg(incremental, "lexical_rank") == expected
    assert leg(incremental, "vector_rank") == expected
    assert {hit.passage_id for hit in incremental.hits} == expected
    titled = {entry.document_id for entry in kept if entry.ordinal == 0 and is_allowed(entry, asked)}
    of_hits = {entry.document_id for entry in kept if entry.passage_id in expected}
    assert {hit.document_id for hit in incremental.documents} == titled | of_hits
    by_title = {hit.document_id for hit in incremental.documents if hit.title_cosine is not None}
    assert by_title == titled
    by_text = {hit.document_id for hit in incremental.documents if hit.text_score is not None}
    assert by_text == titled
    # A reader that followed each write finds just what one finds that opens the index now.
    assert incremental == fresh


async def run(
    folder: Path, writes: list[tuple[str, list[dict[str, Any]] | None]], asked: PassageQuery
) -> tuple[list[Passage], Retrieved, Retrieved]:
    follower = IndexFolder(folder)
    kept: dict[str, list[Passage]] = {}
    for document_id, entries in writes:
        if entries is None:
            await follower.index.delete_documents([document_id])
            kept.pop(document_id, None)
        else:
            kept[document_id] = [
                passage(document_id, ordinal, **fields) for ordinal, fields in enumerate(entries)
            ]
            share = (len(kept) % 5) / 5
            entries_of = [(entry, between(EAST, UP, share=share)) for entry in kept[document_id]]
            await follower.index.replace_documents(
                [indexed(*entries_of) if entries_of else without_passages(document_id)]
            )
        await follower.search(asked)
    await follower.index.optimize()
    incremental = await follower.search(asked)
    await follower.close()
    late = IndexFolder(folder)
    fresh = await late.search(asked)
    await late.close()
    return [entry for entries in kept.values() for entry in entries], incremental, fresh
