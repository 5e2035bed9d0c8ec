"""What is particular to documents as files."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assistant.domain.documents import OriginalFile, ParsedDocument
from assistant.domain.errors import DependencyError, DocumentInvalidError
from assistant.stores.blobs import FolderBlobs
from assistant.stores.documents import StoredDocuments
from tests.contracts.samples import document


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
