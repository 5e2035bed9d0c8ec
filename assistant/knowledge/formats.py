"""Markdown and HTML files: one document a file."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import orjson
from selectolax.lexbor import LexborHTMLParser

from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.front_matter import (
    RESTRICTING_KEYS,
    FrontMatterError,
    is_withdrawn,
    labels_of,
    read_front_matter,
    readable_id,
    refuse_fence,
    refuse_html_labels,
    refuse_near_keys,
)
from assistant.knowledge.items import (
    LARGEST_DOCUMENT_BYTES,
    SourceFailure,
    SourceItem,
    SourceWithdrawal,
    as_item,
    invalid,
    open_regular,
    questions_field,
    refuse_double_keys,
    text_field,
    too_large,
)
from assistant.knowledge.parsing.markdown import heading_text
from assistant.knowledge.parsing_process import ParsingRequest

_LONGEST_HEADING = 2_000
_FENCE = re.compile(r" {0,3}(```|~~~)")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?")
_CLOSING = re.compile(r"(?:^|[ \t])#+[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*")
_UNSAFE_IN_ID = re.compile(r"[^\w.-]+")


def page_request(path: Path, *, name: str) -> ParsingRequest | SourceFailure:
    """Return the file as it is to be read; ``name`` is its path below the folder."""
    try:
        with open_regular(path) as file:
            raw = file.read(LARGEST_DOCUMENT_BYTES + 1)
    except OSError as error:
        return invalid(name, f"cannot be read: {error.strerror}")
    is_markdown = path.suffix.lower() in (".md", ".markdown")
    return ParsingRequest(operation="page", header={"name": name, "is_markdown": is_markdown}, body=raw)


def page_item(name: str, raw: bytes, *, is_markdown: bool) -> SourceItem:
    """Return the document of one file; ``raw`` is at most a byte more than what is taken.

    What the file says of itself is read, its body is not parsed: a body without text fails later, by itself.
    """
    if len(raw) > LARGEST_DOCUMENT_BYTES:
        item: SourceItem = too_large(name, LARGEST_DOCUMENT_BYTES)
    else:
        item = _page_item(name, raw, is_markdown=is_markdown)
    if isinstance(item, SourceFailure):
        return _named(item, name, raw, is_markdown=is_markdown)
    return item


def named_by_file(failure: SourceFailure, name: str) -> SourceFailure:
    """Return the failure of a file that could not be looked into with the document that it is by its name."""
    return replace(failure, own_id=page_id(name), is_named_by_file=True)


def page_id(name: str) -> str:
    """Return the document id of a file: its path below the folder, without the ending, as a slug."""
    return _UNSAFE_IN_ID.sub("-", str(Path(name).with_suffix(""))).strip("-.") or "document"


def _page_item(name: str, raw: bytes, *, is_markdown: bool) -> SourceItem:
    try:
        content = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return invalid(f"{name}:{line}", f"not UTF-8 at byte {error.start}")
    try:
        return _read_markdown(name, content) if is_markdown else _read_html(name, content)
    except FrontMatterError as error:
        return invalid(f"{name}:{error.line}", error.message)
    except DocumentInvalidError as error:
        return invalid(name, error.message)


def _named(failure: SourceFailure, name: str, raw: bytes, *, is_markdown: bool) -> SourceFailure:
    """Return the failure with the document that the file was meant to be: by its id, else by its name."""
    content = raw.decode("utf-8", errors="replace")
    own_id = readable_id(content) if is_markdown else _readable_html_id(content)
    if own_id is not None:
        return replace(failure, own_id=own_id)
    return named_by_file(failure, name)


def _read_markdown(name: str, content: str) -> SourceItem:
    page = read_front_matter(content)
    refuse_html_labels(page)
    own_id = text_field(page.meta.get("id")) or page_id(name)
    if is_withdrawn(page.meta):
        return SourceWithdrawal(own_id, name)
    if not page.body.strip():
        return invalid(name, "there is no text in it")
    title = text_field(page.meta.get("title")) or first_heading(page.body)
    return _page(name, page.meta, title=title, content=page.body, media_type="text/markdown")


def _read_html(name: str, content: str) -> SourceItem:
    refuse_fence(content)
    tree = LexborHTMLParser(content)
    meta = _meta_of(tree)
    if is_withdrawn(meta):
        return SourceWithdrawal(text_field(meta.get("id")) or page_id(name), name)
    if isinstance(asked := meta.get("questions"), str):
        meta["questions"] = [question for question in asked.split("|") if question.strip()]
    canonical = tree.css_first("link[rel=canonical][href]")
    if canonical is not None:
        meta["url"] = canonical.attributes["href"]
    headings = [tree.css_first(selector) for selector in ("title", "h1")]
    titles = [text_field(" ".join(node.text(deep=True).split())) for node in headings if node is not None]
    title = next((title for title in titles if title), None)
    return _page(name, meta, title=title, content=content, media_type="text/html")


def _meta_of(tree: LexborHTMLParser) -> dict[str, object]:
    """Return content by name of all ``<meta>``. Raises DocumentInvalidError for a restriction in another
    form."""
    meta: dict[str, object] = {}
    for node in tree.css("meta"):
        attributes = {key.lower(): value for key, value in node.attributes.items()}
        key, content = _folded(attributes.get("name")), attributes.get("content")
        if key in RESTRICTING_KEYS and (key in meta or content is None):
            raise DocumentInvalidError(
                f'it has two <meta name="{key}">, or one without content. Write one: '
                f'<meta name="{key}" content="…">.'
            )
        for other in ("property", "itemprop", "http-equiv", "id"):
            said = _folded(attributes.get(other))
            refuse_near_keys([said])
            if said in RESTRICTING_KEYS and key != said:
                raise DocumentInvalidError(
                    f'<meta {other}="{said}"> says nothing; write <meta name="{said}" content="…">'
                )
        if key and content is not None:
            meta.setdefault(key, content)
    refuse_near_keys(meta)
    return meta


def _folded(value: str | None) -> str:
    return (value or "").strip().lower()


def _readable_html_id(content: str) -> str | None:
    node = LexborHTMLParser(content).css_first("meta[name=id][content]")
    return text_field(node.attributes["content"]) if node is not None else None


def first_heading(body: str) -> str | None:
    """Return the text of the first heading of the highest level that occurs; None when there is none.

    Lines are looked at, not parsed as a document: what a hostile body costs its parser is not paid here.
    """
    best: tuple[int, str] | None = None
    fence, before = "", ""
    for line in body.splitlines():
        if fence:
            fence = "" if line.strip().startswith(fence) else fence
        elif opened := _FENCE.match(line):
            fence, before = opened[1], ""
        else:
            found = _heading(line, before)
            before = line if not found else ""
            if found and (best is None or found[0] < best[0]):
                best = found
    return best[1] if best is not None else None


def _heading(line: str, before: str) -> tuple[int, str] | None:
    """Return (level, text) of a heading that a line is, or that it underlines."""
    if marked := _ATX.fullmatch(line[:_LONGEST_HEADING]):
        level, text = len(marked[1]), _CLOSING.sub("", marked[2] or "")
    elif before.strip() and (underline := _SETEXT.fullmatch(line)):
        level, text = (1 if underline[1][0] == "=" else 2), before[:_LONGEST_HEADING]
    else:
        return None
    said = heading_text(text)
    return (level, said) if said else None


def _page(
    name: str, meta: Mapping[str, object], *, title: str | None, content: str, media_type: str
) -> SourceItem:
    if title is None:
        return invalid(name, "there is no title, neither in its head nor as a heading")
    return as_item(
        name,
        {
            "document_id": text_field(meta.get("id")) or page_id(name),
            "title": title,
            "content": content,
            "media_type": media_type,
            "source": text_field(meta.get("source")) or "",
            "type": text_field(meta.get("type")) or "",
            "url": text_field(meta.get("url")),
            "owner": text_field(meta.get("owner")),
            "effective_date": text_field(meta.get("effective_date")),
            **labels_of(meta),
            "questions": questions_field(meta.get("questions")),
        },
    )


# Question-and-answer pairs, one JSON object a line, plain or compressed by gzip.


LONGEST_LINE_BYTES = 2 * LARGEST_DOCUMENT_BYTES
LARGEST_FILE_BYTES = 4_000_000_000
"""Of all lines together, not compressed: a compressed file of 4 MB can hold so much."""
_LONGEST_TITLE = 1000
_ID = re.compile(rb'"id"\s{0,9}:\s{0,9}"([^"\\\\\s/?#]{1,256})"')


def jsonl_lines(path: Path, *, name: str) -> Iterator[ParsingRequest | SourceFailure]:
    """Yield each line that is not blank, in order, and what cannot be one."""
    try:
        with open_regular(path) as raw:
            file = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
            size = 0
            for number, line in _lines(cast(BinaryIO, file)):
                if line is None:
                    yield too_large(f"{name}:{number}", LONGEST_LINE_BYTES)
                    continue
                size += len(line)
                if size > LARGEST_FILE_BYTES:
                    yield too_large(f"{name}:{number}", LARGEST_FILE_BYTES)
                    return
                yield ParsingRequest(operation="line", header={"name": f"{name}:{number}"}, body=line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        yield invalid(name, f"not a whole gzip file: {error}")
    except OSError as error:
        yield invalid(name, f"cannot be read: {error.strerror}")


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield (number from 1, line); None for a line over the limit, whose rest is skipped."""
    number = 0
    while line := file.readline(LONGEST_LINE_BYTES + 1):
        number += 1
        if len(line) > LONGEST_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST_LINE_BYTES)
            yield number, None
        elif line.strip():
            yield number, line


def line_item(origin: str, line: bytes) -> SourceItem:
    """Return the document of one line."""
    try:
        line.decode("utf-8")
        line = line.removeprefix(b"\xef\xbb\xbf")
        data = orjson.loads(line)
        refuse_double_keys(line)
    except UnicodeDecodeError as error:
        return named_by_line(invalid(origin, f"not UTF-8 at byte {error.start}"), line)
    except orjson.JSONDecodeError as error:
        return named_by_line(invalid(origin, f"not JSON: {error.msg} at character {error.pos}"), line)
    except DocumentInvalidError as error:
        return named_by_line(invalid(origin, error.message), line)
    if not isinstance(data, dict):
        return invalid(origin, "not a JSON object")
    fields = cast(Mapping[str, object], data)
    try:
        return _line_item(origin, fields)
    except DocumentInvalidError as error:
        failure = invalid(origin, error.message)
    return replace(failure, own_id=text_field(fields.get("id")))


def _line_item(origin: str, fields: Mapping[str, object]) -> SourceItem:
    """Raises DocumentInvalidError."""
    refuse_near_keys(fields)
    _refuse_nested(fields)
    own_id = text_field(fields.get("id"))
    if own_id is not None and is_withdrawn(fields):
        return SourceWithdrawal(own_id, origin)
    missing = [key for key in ("id", "question", "answer") if text_field(fields.get(key)) is None]
    if missing:
        raise DocumentInvalidError(f"missing or empty: {', '.join(missing)}")
    item = as_item(origin, _document_fields(fields))
    return replace(item, own_id=own_id) if isinstance(item, SourceFailure) else item


def _refuse_nested(fields: Mapping[str, object]) -> None:
    """Raise DocumentInvalidError for a restriction that stands inside of another key."""
    for key, value in fields.items():
        if not isinstance(value, dict):
            continue
        inside = cast(Mapping[str, object], value)
        found = next((name for name in inside if name.casefold() in RESTRICTING_KEYS), None)
        if found is not None:
            raise DocumentInvalidError(f'"{found}" stands inside of "{key}"; write it beside id and question')


def named_by_line(failure: SourceFailure, line: bytes) -> SourceFailure:
    """Return the failure with the document that a line was meant to be, where just one id can be read."""
    found = {match[1] for match in _ID.finditer(line[:LONGEST_LINE_BYTES])}
    if len(found) != 1:
        return failure
    return replace(failure, own_id=found.pop().decode("utf-8", errors="replace"))


def _document_fields(fields: Mapping[str, object]) -> dict[str, object]:
    question = text_field(fields["question"]) or ""
    title = text_field(fields.get("title")) or question
    if len(title) > _LONGEST_TITLE:  # the whole question stands in the text then
        title = text_field(fields.get("focus")) or f"{title[: _LONGEST_TITLE - 1]}…"
    return {
        "document_id": text_field(fields["id"]),
        "title": title,
        "content": text_field(fields["answer"]),
        "media_type": "text/plain",
        "question": question,
        "source": text_field(fields.get("source")) or "",
        "type": text_field(fields.get("type")) or "",
        "url": text_field(fields.get("url")),
        "owner": text_field(fields.get("owner")),
        "effective_date": text_field(fields.get("effective_date")),
        **labels_of(fields),
        "questions": questions_field(fields.get("questions")),
    }
