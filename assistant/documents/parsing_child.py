"""The parsing process: ``python -m assistant.documents.parsing_child``, started only by ``ParsingProcess``.

It ends when its standard input closes, so it outlives its parent by the current document at most.
"""

from __future__ import annotations

import gc
import math
import os
import resource
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from assistant.documents.confinement import confine
from assistant.documents.files import SourceDocument, invalid, write_item
from assistant.documents.items import converted_item, line_item, page_item, with_losses
from assistant.documents.parsing import parse_document
from assistant.documents.parsing_process import LENGTHS, OUT_OF_MEMORY
from assistant.documents.passages import InProcessParser, Received
from assistant.domain.documents import Document
from assistant.domain.errors import AssistantError
from assistant.domain.public import PublicModel

_parsers: dict[tuple[str, int, str], InProcessParser] = {}
_NEW_OBJECTS = 50_000
"""After which the garbage collector runs. At Python's 700 it takes a third of the time of a workbook."""


def main() -> None:
    gc.set_threshold(_NEW_OBJECTS, 20, 50)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the parent, which ends us
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output that a library prints must not mix with the answers
    cpu_s = int(os.environ["PARSING_CPU_S"])
    memory_bytes = int(os.environ["PARSING_MEMORY_MIB"]) << 20
    limits = {resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    for limit, most in limits.items():
        resource.setrlimit(limit, (most, most))
    readable = filter(None, os.environ["PARSING_READABLE"].split(os.pathsep))
    _send(answers, orjson.dumps(confine(readable=readable, program=os.environ["PARSING_PROGRAM"] or None)))
    while (head := requests.read(LENGTHS.size)) and len(head) == LENGTHS.size:
        header_bytes, body_bytes = LENGTHS.unpack(head)
        header, body = orjson.loads(requests.read(header_bytes)), requests.read(body_bytes)
        _limit_cpu(cpu_s)
        try:
            answer = _OPERATIONS[header["operation"]](header, body)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        _send(answers, answer)


def _send(answers: BinaryIO, body: bytes) -> None:
    answers.write(LENGTHS.pack(0, len(body)) + body)
    answers.flush()


def _limit_cpu(seconds: int) -> None:
    """Have the kernel end this process (SIGXCPU) after this much more CPU time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    until = math.ceil(used.ru_utime + used.ru_stime) + seconds
    soft = until if hard == resource.RLIM_INFINITY else min(until, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _item(header: Mapping[str, Any], body: bytes) -> bytes:
    """Return the item of a file, of a line of one, or of a stored document."""
    name = header["name"]
    try:
        match header["operation"]:
            case "line":
                item = line_item(name, body)
            case "file":
                item = converted_item(name, body, ocr=header["ocr"])
            case "stored":
                item = with_losses(SourceDocument(_stored(body), name))
            case _:
                item = page_item(name, body, is_markdown=header["is_markdown"])
        if isinstance(item, SourceDocument) and not header.get("with_text"):
            item = replace(item, text="")
        return write_item(item)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (the edge of one file: it must not fail the others)
        return write_item(invalid(name, _unreadable(error)))


def _document(header: Mapping[str, Any], body: bytes) -> bytes:
    """Return ParsedParts as JSON, or a JSON text with the reason why there are none."""
    key = (header["tokenizer"], header["max_tokens"], header["language"])
    if key not in _parsers:
        _parsers[key] = InProcessParser.load(Path(key[0]), max_tokens=key[1], language_code=key[2])
    parse_one, received_at = _parsers[key].parse_one, datetime.fromisoformat(header["received_at"])
    return _parsed(lambda: parse_one(Received(_stored(body), header["content_hash"], received_at)))


def _links(_header: Mapping[str, Any], body: bytes) -> bytes:
    """Return the addresses that a document's body links to as JSON, or the reason why it has no text."""
    return _parsed(lambda: [address for *_, address in parse_document(_stored(body)).links])


def _text(_header: Mapping[str, Any], body: bytes) -> bytes:
    """Return the text of a document's body in a list, or the reason why it has none."""
    return _parsed(lambda: [parse_document(_stored(body)).text])


def _stored(body: bytes) -> Document:
    return Document.model_validate_json(body)


def _parsed(parse: Callable[[], object]) -> bytes:
    try:
        return orjson.dumps(parse(), default=_fields)
    except AssistantError as error:
        return orjson.dumps(error.message)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (the edge of one document)
        return orjson.dumps(_unreadable(error))


def _fields(item: PublicModel) -> dict[str, Any]:
    """Return the fields of a document's item or original, which orjson does not know."""
    return item.model_dump(mode="json")


def _unreadable(error: Exception) -> str:
    """Return a reason without the parser's message, which may quote the text."""
    return f"It cannot be read ({type(error).__name__}). Simplify its markup and add it again."


_OPERATIONS = {
    "page": _item,
    "line": _item,
    "file": _item,
    "stored": _item,
    "document": _document,
    "body": _links,
    "text": _text,
}

if __name__ == "__main__":
    main()
