"""Reads a file or a folder of knowledge."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from assistant.domain.errors import NotFoundError, ParsingStoppedError
from assistant.knowledge.formats import jsonl_lines, named_by_file, named_by_line, page_request
from assistant.knowledge.items import SourceFailure, SourceItem, invalid, read_item
from assistant.knowledge.parsing_process import Parsing, ParsingProcess, ParsingRequest

_LINES = (".jsonl", ".jsonl.gz")
_PAGES = (".md", ".markdown", ".html", ".htm")


def read_sources(paths: Sequence[Path], *, parsing: Parsing | None = None) -> Iterator[SourceItem]:
    """Yield what the files hold, and those below the folders in order of their names; read by ``parsing``,
    else by a parsing process of its own.

    In a folder, hidden files and files of other kinds are passed over, and a link that leads out of it and
    what is no regular file are refused; a file that is named itself is always answered for. Raises
    NotFoundError when a path does not exist.
    """
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"{path}: there is no such file or folder.")
    yield from _parsed(_below(paths), parsing)


def read_source(path: Path, *, name: str, parsing: Parsing | None = None) -> Iterator[SourceItem]:
    """Yield what one file holds; ``name`` is what it is called: documents without an id are named by it."""
    yield from _parsed(_named(path, name=name), parsing)


def _below(paths: Sequence[Path]) -> Iterator[ParsingRequest | SourceFailure]:
    for path in paths:
        if path.is_dir():
            within = path.resolve()
            for file in sorted(_files(path)):
                name = file.relative_to(path).as_posix()
                if Path(os.path.realpath(file)).is_relative_to(
                    within
                ):  # resolve() fails on links in a circle
                    yield from _read(file, name=name)
                else:
                    yield invalid(name, "a link to a file outside of its folder; copy the file instead")
        else:
            yield from _named(path, name=path.name)


def _named(path: Path, *, name: str) -> Iterator[ParsingRequest | SourceFailure]:
    if _is_known(path):
        yield from _read(path, name=name)
    else:
        yield invalid(name, f"not one of {', '.join((*_LINES, *_PAGES))}")


def _parsed(found: Iterator[ParsingRequest | SourceFailure], parsing: Parsing | None) -> Iterator[SourceItem]:
    """Have the requests answered, and keep failures in their places."""
    if parsing is None:
        with ParsingProcess() as own:
            yield from _parsed(found, own)
        return
    places: deque[ParsingRequest | SourceFailure] = deque()

    def requests() -> Iterator[ParsingRequest]:
        for one in found:
            places.append(one)
            if isinstance(one, ParsingRequest):
                yield one

    for answer in parsing.run(requests()):
        while isinstance(place := places.popleft(), SourceFailure):
            yield place
        if isinstance(answer, ParsingStoppedError):
            yield _stopped(place, answer)
        else:
            yield read_item(answer)
    for place in places:
        if isinstance(place, SourceFailure):
            yield place


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and not path.is_dir() and _is_known(path):
            yield path


def _is_known(path: Path) -> bool:
    return path.name.lower().endswith((*_LINES, *_PAGES))


def _stopped(request: ParsingRequest, error: ParsingStoppedError) -> SourceFailure:
    """Return the failure of what stopped its reader; nobody knows any more what it says of its labels."""
    name = str(request.header["name"])
    failure = SourceFailure(name, error.code, error.message)
    if request.operation == "line":
        return named_by_line(failure, request.body)
    return named_by_file(failure, name)


def _read(path: Path, *, name: str) -> Iterator[ParsingRequest | SourceFailure]:
    if path.name.lower().endswith(_LINES):
        yield from jsonl_lines(path, name=name)
    else:
        yield page_request(path, name=name)
