"""What the store of documents does over blobs."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assistant.domain.documents import (
    ORIGINAL_PART_BYTES,
    OriginalFile,
    ParsedDocument,
    Section,
    Span,
    Table,
)
from assistant.domain.errors import DependencyError, DocumentInvalidError
from assistant.stores.blobs import FolderBlobs
from assistant.stores.documents import MOST_CONTENTS, StoredDocuments
from tests.contracts import samples
from tests.contracts.samples import document
from tests.stage.tenant_stores import TenantStores

PARSED = ParsedDocument(
    text="Exceptions\n\nWait until day 24 — unless “lost”.",
    sections=(Section(headings=("Refill", "Exceptions"), span=Span(12, 46)),),
    tables=(Table(header=("Day", "Note"), rows=((Span(21, 23), Span(23, 23)),)),),
    pages=((2, 0),),
    original=OriginalFile(name="fees.pdf", sha256="a" * 64, size_bytes=3),
)


def original_of(content: bytes) -> OriginalFile:
    return OriginalFile(name="fees.pdf", sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


async def test_parsed_text_is_kept_by_content(stores: TenantStores) -> None:
    newer = ParsedDocument(text="Newer.", sections=())
    await stores.documents.put_parsed("refill", "hash-1", PARSED)
    await stores.documents.put_parsed("refill", "hash-2", newer)
    assert await stores.documents.get_parsed("refill", "hash-1") == PARSED
    assert await stores.documents.get_parsed("refill", "hash-2") == newer
    assert await stores.documents.get_parsed("refill", "hash-3") is None


async def test_originals_are_kept_by_their_bytes_and_read_in_parts(stores: TenantStores) -> None:
    long, other = b"%PDF" * (ORIGINAL_PART_BYTES // 4) + b"end", b"newer"
    for content in (long, other):
        await stores.documents.put_original("refill", original_of(content), content)
    first = await stores.documents.read_original("refill", original_of(long), start=0)
    assert first == long[:ORIGINAL_PART_BYTES]
    rest = await stores.documents.read_original("refill", original_of(long), start=ORIGINAL_PART_BYTES)
    assert rest == b"end"
    assert await stores.documents.read_original("refill", original_of(other), start=0) == other
    assert await stores.documents.read_original("refill", original_of(b"unknown"), start=0) is None
    assert await stores.documents.read_original("refill-1", original_of(other), start=0) is None


async def test_holdings_count_all_that_a_deletion_removes(stores: TenantStores) -> None:
    assert await stores.documents.holdings("refill") == 0
    await stores.documents.put(samples.document())
    await stores.documents.put_parsed("refill", "hash-1", PARSED)
    await stores.documents.put_parsed("refill", "hash-2", PARSED)
    assert await stores.documents.holdings("refill") == 3
    assert await stores.documents.holdings("refil") == 0
    await stores.documents.delete("refill")
    assert await stores.documents.holdings("refill") == 0


async def test_a_deletion_touches_no_other_document(stores: TenantStores) -> None:
    await stores.documents.put(samples.document("refill-1"))
    await stores.documents.put(samples.document("refill"))
    await stores.documents.put_parsed("refill-1", "hash-1", PARSED)
    await stores.documents.delete("refill")
    assert await stores.documents.get("refill-1") is not None
    assert await stores.documents.get_parsed("refill-1", "hash-1") is not None


@pytest.mark.parametrize(
    "alike",
    [
        ("Refill", "refill"),
        ("a.b", "a-b"),
        ("..", "."),
        ("50%25", "50%"),
        ("é" * 256, "é" * 255 + "e"),
        ("a\\b", "a:b"),
        ("*", "[a-z]"),
    ],
)
async def test_ids_that_look_alike_are_kept_apart(stores: TenantStores, alike: tuple[str, str]) -> None:
    for document_id in alike:
        await stores.documents.put(samples.document(document_id, content=f"This is {document_id}."))
    await stores.documents.delete(alike[1])
    found = await stores.documents.get(alike[0])
    assert found is not None
    assert found.content == f"This is {alike[0]}."
    assert await stores.documents.get(alike[1]) is None


async def test_contents_before_are_kept_up_to_a_bound_and_deleted_with_it(stores: TenantStores) -> None:
    for n in range(MOST_CONTENTS + 2):
        await stores.documents.put(samples.document(content=f"Content {n}."))
    kept = [one.document.content for one in await stores.documents.contents("refill")]
    assert kept == [f"Content {n}." for n in range(MOST_CONTENTS + 1, 1, -1)]
    await stores.documents.delete("refill")
    assert await stores.documents.contents("refill") == []


# --- files of documents -----------------------------------------------------------------------------------
def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def test_a_document_is_canonical_json(tmp_path: Path) -> None:
    await StoredDocuments(FolderBlobs(tmp_path)).put(document())
    (path,) = files_below(tmp_path)
    assert path.read_bytes().startswith(b'{"content":"Wait until day 24.","document_id":"refill"')


async def test_no_id_leads_out_of_the_folder(tmp_path: Path) -> None:
    store = StoredDocuments(FolderBlobs(tmp_path / "documents"))
    for document_id in ("..", "..\\..\\x", "%2e%2e", "."):
        await store.put(document(document_id))
    assert len(files_below(tmp_path / "documents")) == 4
    assert files_below(tmp_path) == files_below(tmp_path / "documents")


async def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    store = StoredDocuments(FolderBlobs(tmp_path))
    await store.put(document())
    (path,) = files_below(tmp_path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DocumentInvalidError, match="refill: the stored copy is damaged"):
        await store.get("refill")


async def test_a_write_that_fails_leaves_the_old_document_and_no_half_one(tmp_path: Path) -> None:
    store = StoredDocuments(FolderBlobs(tmp_path))
    await store.put(document(content="Old."))
    (path,) = files_below(tmp_path)
    path.unlink()
    path.mkdir()  # a file cannot be renamed over a folder
    with pytest.raises(DependencyError, match="Is a directory"):
        await store.put(document(content="New."))
    assert files_below(tmp_path) == []


async def test_a_deletion_leaves_no_file(tmp_path: Path) -> None:
    store = StoredDocuments(FolderBlobs(tmp_path))
    await store.put(document())
    await store.put_parsed("refill", "hash", ParsedDocument(text="Text.", sections=()))
    original = OriginalFile(name="fees.pdf", sha256=hashlib.sha256(b"fees").hexdigest(), size_bytes=4)
    await store.put_original("refill", original, b"fees")
    digest = hashlib.sha256(b"refill").hexdigest()
    (tmp_path / digest[:2] / f".{digest[:32]}.0a.tmp").write_bytes(b"a draft of the release before")
    assert await store.holdings("refill") == 4
    await store.delete("refill")
    assert files_below(tmp_path) == []


_KILLED_WRITER = """
import asyncio, os, pathlib, signal, sys
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from assistant.domain.documents import ParsedDocument
from assistant.stores.blobs import FolderBlobs
from assistant.stores.documents import StoredDocuments
from tests.contracts.samples import document
store = StoredDocuments(FolderBlobs(pathlib.Path(sys.argv[1])))
writing = store.put(document()) if sys.argv[2] == "document" else (
    store.put_parsed("refill", "0" * 64, ParsedDocument("Wait until day 24.", ())))
asyncio.run(writing)
"""


@pytest.mark.parametrize("what", ["document", "parsed"])
async def test_a_deletion_removes_drafts_of_a_killed_writer(tmp_path: Path, what: str) -> None:
    arguments = [sys.executable, "-c", _KILLED_WRITER, str(tmp_path), what]
    killed = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(files_below(tmp_path)) == 1
    store = StoredDocuments(FolderBlobs(tmp_path))
    await store.put(document("other"))
    await store.delete("refill")
    assert [path.name.partition("-")[0] for path in files_below(tmp_path)] == ["other"]
