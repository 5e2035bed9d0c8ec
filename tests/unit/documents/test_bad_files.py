"""Bad files of a folder: each is refused with a reason, within limits, and stops no other.

Tests of single formats stand beside their converters: encryption, truncation, pages, bombs, entities, hidden
sheets, formulas, macros, encodings.
"""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from assistant.documents.files import SourceDocument, SourceFailure, read_sources, skipped_files
from assistant.documents.parsing_process import ParsingLimits, ParsingProcess
from assistant.documents.receive import AddDocuments
from assistant.domain.documents import DocumentState
from tests.unit.documents.knowledge import HANDBOOK, OLGA, Knowledge
from tests.unit.documents.source_files import read, write

TAGS = 100_000


def test_a_hundred_thousand_nested_tags_are_refused_or_read_within_two_seconds_of_cpu(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "a.html": "<div>" * TAGS + "text",
        "b.md": "<div>" * TAGS + "text",
        "d.jsonl": '{"id": "a", "title": "b", "text": "c", "metadata": ' + "[" * TAGS + "]" * TAGS + "}",
        "e.md": ">" * TAGS + "text",
        "e2.md": "[" * TAGS,
    }
    for name, content in files.items():
        write(tmp_path / name, content)
    write(tmp_path / "z.txt", "Wait.")
    with ParsingProcess(ParsingLimits(cpu_s=2)) as parsing:
        items = list(read_sources([tmp_path], parsing=parsing))
    assert len(items) == len(files) + 1
    assert not [item for item in items if isinstance(item, SourceFailure) and "CPU time" in item.reason]
    assert isinstance(items[-1], SourceDocument)


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.md", "a.html", "a.json", "a.jsonl"])
def test_a_line_of_a_gigabyte_is_refused_within_bounded_memory(name: str, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(1_000_000_000)
    tracemalloc.start()
    (item,) = read(tmp_path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(item, SourceFailure)
    assert item.code == "too_large"
    assert peak_bytes < 160_000_000


def test_names_with_tricks_stop_no_load_and_make_plain_ids(tmp_path: Path) -> None:
    names = (b"caf\xe9.txt", b"-rf.txt", b"a\nb.txt", "a\u202efdp.txt".encode(), b"x" * 251 + b".txt")
    for name in names:
        write(tmp_path / os.fsdecode(name), b"Wait.")
    write(tmp_path / os.fsdecode(b"caf\xe9.zip"), b"")
    items = {item.origin: item for item in read(tmp_path)}
    refused = items.pop("caf\\xe9.txt")
    assert isinstance(refused, SourceFailure)
    assert (refused.reason, refused.own_id) == ("its name is not UTF-8. Rename the file.", "caf-xe9.txt")
    ids = [item.document.document_id for item in items.values() if isinstance(item, SourceDocument)]
    assert ids == ["rf.txt", "a-b.txt", "a-fdp.txt", "x" * 251 + ".txt"]
    assert skipped_files([tmp_path]) == ["caf\\xe9.zip"]


async def test_a_file_that_changes_while_it_is_read_is_a_failure(
    tmp_path: Path, knowledge: Knowledge
) -> None:
    path = write(tmp_path / "files" / "fees.txt", b"A call takes 5 minutes.")
    (item,) = read(path)
    add = AddDocuments(knowledge.knowledge_stores, clock=knowledge.clock)
    write(path, b"Something else.")
    summary = await add([item], source=HANDBOOK, writer=OLGA)
    assert [failure.reason for failure in summary.failures] == [
        "The file changed while it was read. Add it again."
    ]
    assert await knowledge.stores.documents.get("fees.txt") is None
    write(path, b"A call takes 5 minutes.")
    assert (await add(read(path), source=HANDBOOK, writer=OLGA)).added == 1
    assert await knowledge.state("fees.txt") is DocumentState.RECEIVED
