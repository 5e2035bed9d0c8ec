"""Questions as they come in: from the command line, or from the file of ``assistant search --queries``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.domain.errors import InvalidRequestError, NotFoundError, UnreadableRequestError

LONGEST_LINE_BYTES = 1_000_000


class Query(BaseModel):
    """One line: ``{"qid": …, "question": …}``; what else is on it is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    qid: str = Field(min_length=1)
    question: str = Field(min_length=1)


def checked_question(argument: str) -> str:
    """Return a question given as an argument. Raises UnreadableRequestError, InvalidRequestError."""
    try:
        argument.encode("utf-8")
    except UnicodeEncodeError:  # Python keeps bytes that are not UTF-8 as lone surrogates
        raise UnreadableRequestError("The question is not UTF-8.") from None
    if not argument.strip():
        raise InvalidRequestError("The question is empty.")
    return argument


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no question."""

    number: int
    """From 1."""
    reason: str


def read_queries(path: Path) -> Iterator[Query | BadLine]:
    """Yield what each line that is not blank holds; a second line with the same qid is a bad one.

    Raises NotFoundError when there is no such file.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: there is no such file.")
    seen: set[str] = set()
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE_BYTES + 1):
            number += 1
            if len(line) > LONGEST_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(LONGEST_LINE_BYTES)
                yield BadLine(number, f"longer than {LONGEST_LINE_BYTES:,} bytes")
            elif line.strip():
                yield _read(number, line, seen)


def _read(number: int, line: bytes, seen: set[str]) -> Query | BadLine:
    try:
        query = Query.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return BadLine(number, f"{where}: {first['msg']}" if where else first["msg"])
    if not query.question.strip():
        return BadLine(number, "question: it is empty")
    if query.qid in seen:
        return BadLine(number, f"qid {query.qid} came before")
    seen.add(query.qid)
    return query
