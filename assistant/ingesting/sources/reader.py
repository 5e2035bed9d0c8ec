"""Reads a file or a folder of knowledge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from assistant.domain.errors import NotFoundError
from assistant.ingesting.sources.items import SourceItem, invalid
from assistant.ingesting.sources.jsonl import read_jsonl
from assistant.ingesting.sources.pages import read_page

_LINES = (".jsonl", ".jsonl.gz")
_PAGES = (".md", ".markdown", ".html", ".htm")


def read_sources(paths: Sequence[Path]) -> Iterator[SourceItem]:
    """Yield what the files hold, and those below the folders in order of their names.

    In a folder, hidden files and files of other kinds are passed over, and a link that leads out of it is
    refused; a file that is named itself is always answered for. Raises NotFoundError when a path does not
    exist.
    """
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"{path}: there is no such file or folder.")
    for path in paths:
        if path.is_dir():
            within = path.resolve()
            for file in sorted(_files(path)):
                name = file.relative_to(path).as_posix()
                if file.resolve().is_relative_to(within):
                    yield from _read(file, name=name)
                else:
                    yield invalid(name, "a link to a file outside of its folder; copy the file instead")
        else:
            yield from read_source(path, name=path.name)


def read_source(path: Path, *, name: str) -> Iterator[SourceItem]:
    """Yield what one file holds; ``name`` is what it is called: documents without an id are named by it."""
    if _is_known(path) and not path.is_file():  # reading a pipe would wait for ever
        yield invalid(name, "not a regular file")
    elif _is_known(path):
        yield from _read(path, name=name)
    else:
        yield invalid(name, f"not one of {', '.join((*_LINES, *_PAGES))}")


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file() and _is_known(path):
            yield path


def _is_known(path: Path) -> bool:
    return path.name.lower().endswith((*_LINES, *_PAGES))


def _read(path: Path, *, name: str) -> Iterator[SourceItem]:
    if path.name.lower().endswith(_LINES):
        yield from read_jsonl(path, name=name)
    else:
        yield read_page(path, name=name)
