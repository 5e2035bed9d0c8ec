"""What a parser that was taken over answers fails its own document, in the project's own errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from assistant.documents.files import SourceFailure, read_sources
from assistant.documents.parsing_process import MALFORMED, ParsingLimits, ParsingProcess
from assistant.documents.passages import InProcessParser, ParsedParts, Received, SeparateParser
from assistant.domain.errors import ParsingStoppedError
from tests.unit.documents.scene import document

TAKEN_OVER = """#!{python} -IS
import struct, sys
requests, answers = sys.stdin.buffer, sys.stdout.buffer
def send(head, body):
    answers.write(head + body)
    answers.flush()
send(struct.pack(">II", 0, 2), b"[]")
while lengths := requests.read(8):
    requests.read(sum(struct.unpack(">II", lengths)))
    answer = {answer!r}
    send({head}, answer)
"""
OWN_LENGTH, TOO_LONG = 'struct.pack(">II", 0, len(answer))', 'struct.pack(">II", 0, 0xFFFFFFFF)'
TakeOver = Callable[..., ParsingProcess]
PARTS = TypeAdapter(ParsedParts)


@pytest.fixture
def take_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TakeOver]:
    """Start a program in the parser's place that gives every request this answer."""
    started: list[ParsingProcess] = []

    def start(answer: bytes, head: str = OWN_LENGTH) -> ParsingProcess:
        program = tmp_path / "taken-over"
        program.write_text(TAKEN_OVER.format(python=sys.executable, answer=answer, head=head))
        program.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(program))
        started.append(ParsingProcess(ParsingLimits(memory_mib=64)))
        return started[-1]

    yield start
    for process in started:
        process.close()


def item(**fields: object) -> bytes:
    content = {"document_id": "a", "title": "A", "content": "# A", "media_type": "text/markdown"}
    return json.dumps([{"document": content, "origin": "a.md", **fields}]).encode()


NO_ANSWERS = {
    "nothing": b"",
    "half of one": b'{"origin": "a.md", "co',
    "another kind": b'[{"origin": 1}]',
    "none": b"[]",
    "not UTF-8": b'"\xff"',
    "deep": b"[" * 100_000,
}
NO_ITEMS = NO_ANSWERS | {
    "of another file": item(origin="public/a.md"),
    "with a file of this machine": item(file="/etc/passwd"),
}


def failures_of(process: ParsingProcess, folder: Path) -> list[SourceFailure]:
    pages = folder / "pages"
    pages.mkdir()
    for name in ("a.md", "b.md"):
        (pages / name).write_text("# A\n\nText.\n")
    items = list(read_sources([pages], parsing=process))
    assert all(isinstance(one, SourceFailure) for one in items), items
    return [one for one in items if isinstance(one, SourceFailure)]


@pytest.mark.parametrize("case", NO_ITEMS)
def test_an_answer_that_is_no_item_of_its_file_fails_that_file(
    take_over: TakeOver, tmp_path: Path, case: str
) -> None:
    failures = failures_of(take_over(NO_ITEMS[case]), tmp_path)
    assert [(one.origin, one.code, one.reason, one.own_id) for one in failures] == [
        ("a.md", "parsing_stopped", MALFORMED, "a"),
        ("b.md", "parsing_stopped", MALFORMED, "b"),
    ]


def test_an_answer_longer_than_the_parser_could_hold_is_not_read(take_over: TakeOver, tmp_path: Path) -> None:
    failures = failures_of(take_over(b"", TOO_LONG), tmp_path)
    assert [one.reason for one in failures] == [MALFORMED, MALFORMED]


def test_the_stand_in_is_believed_where_its_answer_is_one(take_over: TakeOver, tmp_path: Path) -> None:
    """Else the tests above would pass for another reason than the answer."""
    (tmp_path / "a.md").write_text("# A")
    (read,) = read_sources([tmp_path / "a.md"], parsing=take_over(item()))
    assert not isinstance(read, SourceFailure)


RECEIVED = replace(
    Received(document("rules", "# Rules\n\nOne rule."), "", datetime(2026, 11, 27, tzinfo=UTC)),
    content_hash="h",
)


def parts(tokenizer_json: Path) -> ParsedParts:
    return InProcessParser.load(tokenizer_json, max_tokens=64, language_code="en").parse_one(RECEIVED)


def parsed(process: ParsingProcess, tokenizer_json: Path) -> object:
    apart = SeparateParser(process, tokenizer_json=tokenizer_json, max_tokens=64, language_code="en")
    (answer,) = apart.parse([RECEIVED])
    return answer


@pytest.mark.parametrize("case", NO_ANSWERS)
def test_an_answer_that_is_no_parts_fails_the_document(
    take_over: TakeOver, tokenizer_json: Path, case: str
) -> None:
    answer = parsed(take_over(NO_ANSWERS[case]), tokenizer_json)
    assert isinstance(answer, ParsingStoppedError)
    assert answer.message == MALFORMED


@pytest.mark.parametrize(
    "other",
    [
        {"document_id": "another"},
        {"content_hash": "other"},
        {"source": "another"},
        {"labels": ("everyone",)},
        {"passage_id": "another#0"},
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["passage", "card", "text"])
def test_parts_that_would_go_into_the_index_as_anothers_fail_the_document(
    take_over: TakeOver, tokenizer_json: Path, other: dict[str, object], where: str
) -> None:
    own = parts(tokenizer_json)
    if where == "passage":
        forged = replace(own, passages=tuple(replace(one, **other) for one in own.passages))
    elif where == "text":
        forged = replace(own, parsed=replace(own.parsed, labels=("everyone",)))
    elif "passage_id" in other:
        forged = replace(own, passages=own.passages * 2)
    else:
        forged = replace(own, card=replace(own.card, **other))
    answer = parsed(take_over(PARTS.dump_json(forged)), tokenizer_json)
    assert isinstance(answer, ParsingStoppedError)
    assert answer.message == MALFORMED


def test_parts_of_the_document_are_taken(take_over: TakeOver, tokenizer_json: Path) -> None:
    own = parts(tokenizer_json)
    assert parsed(take_over(PARTS.dump_json(own)), tokenizer_json) == own
