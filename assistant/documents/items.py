"""Reads one file or JSON line into an item: a document, a withdrawal or a failure. Runs in the parsing
process.

``parsing_child`` calls it, a function for each kind of file. The document's fields come from front matter,
``<meta>`` or keys of the JSON line. Its body stays as written; to tell what is lost, ``with_losses`` parses
it too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape, unescape
from typing import cast

import orjson
from turbohtml import Document, parse

from assistant.documents import files, front_matter
from assistant.documents.exports import (
    LONGEST_CELL_WORDS,
    OWN_BODIES,
    OWN_KEYS,
    ExportKeys,
    data_of,
    lines_of,
    page_of,
    says_something,
    text_in,
    title_in,
)
from assistant.documents.formats import convert
from assistant.documents.formats.text_files import decoded, decoded_page
from assistant.documents.page import BESIDE_CONTENT, Page, first_of
from assistant.documents.parsing import render_document
from assistant.documents.parsing.html import opened_markup, with_markup_read
from assistant.documents.parsing.markdown import first_heading
from assistant.documents.parsing.render import words_in
from assistant.documents.whole import contradictions, days_not_read
from assistant.domain.documents import ItemFacts
from assistant.domain.errors import DocumentInvalidError, TooLargeError
from assistant.text.editions import says_in_force
from assistant.text.language import letters_of

_LONGEST_TITLE = 1000
"""Characters of ``Document.title``; a question may be longer."""
# A fact such as "fee: 2 * 3" must not be read as Markdown: each of its signs gets a backslash.
_MARKUP, _ESCAPED = re.compile(r"[\\`*\[\]<>#|~&]"), r"\\\g<0>"
_BODIES = "question and answer, or title and text, or title and markdown"
"""The bodies that a JSON line may have, for its errors."""
_SHOWN_KEYS = 8
_TEXT_FIELDS = frozenset({"id", "title", "url", *OWN_BODIES})
_OPTIONAL = ("url", "owner", "effective_date", "review_after")
_META_NAMES = ("name", "property", "itemprop", "http-equiv", "id")
"""Attributes of a <meta> that may have its name, best first: <meta property="og:title" content="Fees">."""


def page_item(name: str, raw: bytes, *, is_markdown: bool) -> files.SourceItem:
    """Return the item of a file in Markdown or HTML, called ``name``.

    ``raw`` is the file, cut one byte after LARGEST_DOCUMENT_BYTES: that byte tells that it is too large.

    A failure carries the id that the file gives or, where that is unreadable, the id of its name.
    """
    item = _page_item(name, raw, is_markdown=is_markdown)
    if not isinstance(item, files.SourceFailure):
        return item
    try:
        content = _text(raw, is_markdown=is_markdown)
    except DocumentInvalidError:
        content = raw.decode(errors="replace")
    own_id = front_matter.readable_id(content) if is_markdown else _readable_html_id(content)
    return replace(item, own_id=own_id) if own_id is not None else files.named_by_file(item, name)


def converted_item(name: str, raw: bytes, *, ocr: Sequence[str] = ()) -> files.SourceItem:
    """Return the item of a file of another format ("fees.pdf"); its content is the page model in JSON.

    Such a file has no place for an id or labels: the id comes from ``name``. Its scans are read in the
    languages ``ocr``, as tesseract calls them ("deu").
    """
    return _made_item(name, lambda: convert(name, raw, ocr=ocr), {})


def object_item(name: str, raw: bytes) -> files.SourceItem:
    """Return the item of a JSON file that is one document: tables and lines below its keys."""
    fields = cast(Mapping[str, object], data_of(raw))
    title = text_in(fields.get("title")) or None
    metadata = {key: tuple(front_matter.texts_below(value)) for key, value in _dated(fields)}
    return _made_item(name, lambda: replace(with_markup_read(page_of(fields)), title=title), metadata)


def _dated(fields: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield each key that says when a document is in force, with its value: "in force from" of
    {"in_force": {"from": "2026-03-15"}}."""
    for key, value in fields.items():
        inner = cast(Mapping[str, object], value) if isinstance(value, Mapping) else {"": value}
        names = ((f"{key} {name}".strip(), part) for name, part in inner.items())
        yield from ((name, part) for name, part in names if says_in_force(name))


def _made_item(name: str, read: Callable[[], Page], metadata: dict[str, tuple[str, ...]]) -> files.SourceItem:
    """Return the item of a file whose page ``read`` returns."""
    try:
        page = read()
        content = page.to_bytes()
    except DocumentInvalidError as error:
        return files.named_by_file(files.invalid(name, error.message), name)
    if len(content) > files.LARGEST_DOCUMENT_BYTES:
        problem = f"its text is larger than {files.LARGEST_DOCUMENT_BYTES:,} bytes. Split the file."
        return files.named_by_file(files.SourceFailure(name, TooLargeError.code, problem), name)
    body = front_matter.FrontMatter({}, metadata, content.decode())
    return _document(name, body, page.title, media_type="application/vnd.page+json")


def line_item(origin: str, line: bytes, export: ExportKeys) -> files.SourceItem:
    """Return the item of one JSON line: a question with its answer, or a title with its text.

    ``origin`` is ``<file>:<line>``; ``export`` says what the keys of its file mean. A failure carries the
    line's id, if that can be read.

        {"id": "fees-1", "question": "What is the fee?", "answer": "$20.", "labels": ["staff"]}
        {"id": "fees", "title": "Fees", "markdown": "# Fees …", "metadata": {"campus": "north"}}
    """
    try:
        line.decode("utf-8")
        line = line.removeprefix(b"\xef\xbb\xbf")
        data = orjson.loads(line)
        files.refuse_duplicate_keys(line)
    except UnicodeDecodeError as error:
        return files.named_by_line(files.invalid(origin, f"not UTF-8 at byte {error.start}"), line)
    except orjson.JSONDecodeError as error:
        not_json = f"not JSON: {error.msg} at character {error.pos}"
        return files.named_by_line(files.invalid(origin, not_json), line)
    except DocumentInvalidError as error:
        return files.named_by_line(files.invalid(origin, error.message), line)
    if not isinstance(data, dict):
        return files.invalid(origin, "not a JSON object")
    fields = cast(Mapping[str, object], data)
    try:
        item = _line_item(origin, fields, export)
    except DocumentInvalidError as error:
        item = files.invalid(origin, error.message)
    if not isinstance(item, files.SourceFailure):
        return item
    return replace(item, own_id=files.text_field(fields.get(_keys_read(fields, export).get("id", "id"))))


def _page_item(name: str, raw: bytes, *, is_markdown: bool) -> files.SourceItem:
    if len(raw) > files.LARGEST_DOCUMENT_BYTES:
        return files.too_large(name, files.LARGEST_DOCUMENT_BYTES)
    try:
        content = _text(raw, is_markdown=is_markdown).replace("\r\n", "\n")
        return _markdown_item(name, content) if is_markdown else _html_item(name, content)
    except front_matter.FrontMatterError as error:
        return files.invalid(f"{name}:{error.line}", error.message)
    except DocumentInvalidError as error:
        return files.invalid(name, error.message)


def _text(raw: bytes, *, is_markdown: bool) -> str:
    """Return the file's text. Raises DocumentInvalidError for an unknown encoding."""
    return decoded(raw) if is_markdown else decoded_page(raw)


def _markdown_item(name: str, content: str) -> files.SourceItem:
    page = front_matter.read_front_matter(content)
    if front_matter.is_withdrawn(page.meta):
        return files.SourceWithdrawal(_id_of(name, page.meta), name)
    if not page.body.strip():
        return files.invalid(name, "there is no text in it")
    title = files.text_field(page.meta.get("title")) or first_heading(page.body)
    if page.facts:  # readers see them as the first paragraph
        page = replace(page, body=f"{_MARKUP.sub(_ESCAPED, '; '.join(page.facts))}\n\n{page.body}")
    return _document(name, page, title, media_type="text/markdown")


def _html_item(name: str, content: str) -> files.SourceItem:
    page = parse(content).remove("template")
    meta, metadata = _html_meta(page)
    if front_matter.is_withdrawn(meta):
        return files.SourceWithdrawal(_id_of(name, meta), name)
    if isinstance(questions := meta.get("questions"), str):
        meta["questions"] = [question for question in questions.split("|") if question.strip()]
    for element in page.select("link[rel=canonical][href]"):
        if front_matter.is_address(address := element.attr("href") or ""):
            meta["url"] = address
    headings = [page.select_one(selector) for selector in ("head > title", "h1")]
    titles = [" ".join(element.text.split()) for element in headings if element is not None]
    title = next(filter(None, titles), None)
    return _document(name, front_matter.FrontMatter(meta, metadata, content), title, media_type="text/html")


def _html_meta(page: Document) -> tuple[dict[str, object], dict[str, tuple[str, ...]]]:
    """Return the content of each ``<meta name="…">`` whose name is a key of front matter, and the texts of
    every other ``<meta>`` by its name (``FrontMatter.meta``, ``.metadata``).

    Raises DocumentInvalidError for labels or ``withdrawn`` that occur twice or have no content.
    """
    meta: dict[str, object] = {}
    metadata: dict[str, tuple[str, ...]] = {}
    for element in page.select("meta"):
        key, content = (element.attr("name") or "").strip().lower(), element.attr("content")
        if key in front_matter.RESTRICTING_KEYS and (key in meta or content is None):
            problem = f'it has two <meta name="{key}">, or one without content'
            raise DocumentInvalidError(f'{problem}. Write one: <meta name="{key}" content="…">.')
        if (
            key in front_matter.TEXT_KEYS
            and content is not None
            and (key != "url" or front_matter.is_address(content))
        ):
            meta.setdefault(key, content if key != "labels" or content.strip() else ())
        elif content:
            other = next((name for kind in _META_NAMES if (name := element.attr(kind))), "meta")
            metadata[other] = (*metadata.get(other, ()), *front_matter.texts_below(content))
    return meta, metadata


def _readable_html_id(content: str) -> str | None:
    """Return the id of an invalid page, from ``<meta name="id" content="fees-2026">``; None without it."""
    element = parse(content).remove("template").select_one("meta[name=id][content]")
    return files.text_field(element.attr("content")) if element is not None else None


def _document(
    name: str, page: front_matter.FrontMatter, title: str | None, *, media_type: str
) -> files.SourceItem:
    """Return the document, or a failure for invalid fields. Without a title it gets one from its file's name.

    Only Markdown has the key ``item``: a ``<meta>`` has no place for a mapping.
    """
    fields = {
        "document_id": _id_of(name, page.meta),
        "title": title or files.title_of(name),
        "content": page.body,
        "media_type": media_type,
    }
    item_facts = front_matter.item_of(page.meta) if media_type == "text/markdown" else None
    fields |= _shared_fields(page.meta) | _item_field(item_facts)
    item = files.as_item(name, fields, metadata=page.metadata)
    return with_losses(item) if isinstance(item, files.SourceDocument) else item


def with_losses(item: files.SourceDocument) -> files.SourceDocument:
    """Return the document with its text, and what of the file is not in it.

    ``lost_share`` leaves out words that nobody misses: menus, and older quoted mail. A document that cannot
    be parsed is returned as it is: the worker parses it again, and reports it.
    """
    try:
        rendered = render_document(item.document)
    except DocumentInvalidError:
        return item
    lost = sum(loss.words for loss in rendered.losses if loss.what not in BESIDE_CONTENT)
    share = lost / max(1, lost + words_in(rendered.parsed.text))
    losses = (*rendered.losses, *contradictions(rendered.parsed))
    if not (item.document.effective_date or any(map(says_in_force, item.metadata))):
        losses = (*losses, *days_not_read(rendered.parsed, item.document.title))
    return replace(item, losses=losses, lost_share=share, text=rendered.parsed.text)


def _id_of(name: str, meta: Mapping[str, object]) -> str:
    return files.text_field(meta.get("id")) or files.page_id(name)


def _line_item(origin: str, fields: Mapping[str, object], export: ExportKeys) -> files.SourceItem:
    """Return the item of a JSON object. Raises DocumentInvalidError."""
    for key in fields.keys() - set(front_matter.RESTRICTING_KEYS):
        if (name := letters_of(key)) in front_matter.RESTRICTING_KEYS:
            problem = f'the key "{key:.60}" is unknown'
            raise DocumentInvalidError(f'{problem}. Write "{name}" to hide it from readers.')
    keys = _keys_read(fields, export)
    named: dict[str, object] = {
        ours: text_in(fields[key]) if ours in _TEXT_FIELDS else fields[key] for ours, key in keys.items()
    }
    own_id = files.text_field(named.get("id"))
    if own_id is not None and front_matter.is_withdrawn(named):
        return files.SourceWithdrawal(own_id, origin)
    is_own = not set(OWN_BODIES).isdisjoint(fields)
    is_row = {"question", *OWN_BODIES}.isdisjoint(named) and "text" not in export.read
    read = OWN_KEYS.intersection(keys.values()) if is_row else {*keys.values()}
    left = {
        key: value
        for key, value in fields.items()
        if key not in read and (says_something(value) or (value is None and key in export.gaps))
    }
    shown = [key for key in left if key not in export.unshown]
    lines = [[*lines_of(key, left[key])] for key in shown]
    row = (
        [text for text, *more in lines if not more and len(text.split()) <= LONGEST_CELL_WORDS]
        if is_row
        else []
    )
    rest = [line for part in lines for line in part if line not in row]
    _add_lines(named, ["; ".join(row), *rest] if row else rest, is_own=is_own)
    if {"question", *OWN_BODIES}.isdisjoint(named):
        no_id = "" if own_id else "id, and "
        there = first_of([f'"{key:.60}"' for key in fields], most=_SHOWN_KEYS)
        raise DocumentInvalidError(f"missing: {no_id}{_BODIES}; there are {there}")
    title = files.text_field(named.get("title", named.get("question")))
    if not title and named.keys().isdisjoint(("title", "question")):
        named["title"] = title = title_in(fields, export.read) or own_id or "".join(row[:1])
    if own_id is None and title and "id" not in export.read:
        name, line = title.replace("/", " "), origin.rpartition(":")[2]
        name = f"{name} {line}" if title in export.repeated else name
        named["id"] = own_id = files.page_id(f"{files.file_of(origin)}/{name}.md")
    is_text = "answer" not in named and not {"text", "markdown"}.isdisjoint(named)
    body = _text_body(named) if is_text else _answer_body(named)
    body["title"] = unescape(str(body["title"]))
    shared = _shared_fields(named) | _item_field(front_matter.item_of(named))
    metadata = _metadata(fields, keys)
    item = files.as_item(origin, {"document_id": own_id, **body, **shared}, metadata=metadata)
    if not isinstance(item, files.SourceDocument):
        return item
    item = replace(item, shown=tuple(shown))
    return with_losses(item) if is_text else item


def _keys_read(fields: Mapping[str, object], export: ExportKeys) -> dict[str, str]:
    """Return for each of our keys the line's key that is read: its own, or the export's where that has no
    text."""
    keys = {key: key for key, value in fields.items() if key in OWN_KEYS and _has_our_form(key, value)}
    has_body = any(text_in(fields.get(body)) for body in OWN_BODIES)
    for ours, key in export.read.items():
        is_read = has_body if ours == "text" else text_in(fields.get(keys.get(ours, "")))
        if key != ours and text_in(fields.get(key)) and not is_read:
            keys["answer" if ours == "text" and "question" in keys else ours] = key
    return keys


def _has_our_form(key: str, value: object) -> bool:
    """Return False for a key that other exports have too, in another form: "item" with a name, "type" with an
    object. Their readers see it as any unknown key."""
    if key == "item":
        return value is None or isinstance(value, Mapping)
    if key in ("source", "type", "owner"):
        return not isinstance(value, Mapping | list)
    return key != "url" or not isinstance(value, str) or front_matter.is_address(value)


def _metadata(fields: Mapping[str, object], keys: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return each text below the keys that are not read, and below those of ``metadata`` that say when the
    document is in force."""
    read = {key for ours, key in keys.items() if ours not in files.UNSHOWN_KEYS}
    unread = {key: value for key, value in fields.items() if key not in read}
    if isinstance(nested := fields.get("metadata"), Mapping):
        fields_of_metadata = cast(Mapping[str, object], nested)
        unread |= {key: value for key, value in fields_of_metadata.items() if says_in_force(key)}
    if "status" in keys:
        unread["status"] = fields[keys["status"]]
    return {key: tuple(front_matter.texts_below(value)) for key, value in unread.items()}


def _add_lines(named: dict[str, object], lines: Sequence[str], *, is_own: bool) -> None:
    """Put lines below the body of a line with these keys, or in place of a text that it lacks.

    Without lines only the plain body of an export changes (``is_own`` is false): one line of plain text is
    read as a heading, and columns of blanks only in <pre>.
    """
    usual = "answer" if "question" in named else "text"
    body = next((ours for ours in ("answer", "markdown", "text") if ours in named), usual)
    if not lines and (is_own or body not in named):
        return
    text = str(named.get(body, ""))
    if body == "markdown":
        named[body] = "\n\n".join((text, *(_MARKUP.sub(_ESCAPED, line) for line in lines)))
        return
    content, is_html = opened_markup(text)
    parts = [content if is_html else f"<pre>{escape(content)}</pre>"]
    for line, is_html in map(opened_markup, lines):
        parts.append(f"<div>{line if is_html else escape(line)}</div>")
    named[body] = "".join(parts)


def _answer_body(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the document's fields for a question with its answer. Raises DocumentInvalidError."""
    _refuse_missing(fields, ("id", "question", "answer"))
    question = files.text_field(fields["question"]) or ""
    title = files.text_field(fields.get("title")) or question
    if len(title) > _LONGEST_TITLE:  # readers still see all of it: ``question`` is part of the text
        title = files.text_field(fields.get("focus")) or f"{title[: _LONGEST_TITLE - 1]}…"
    content, is_html = opened_markup(files.text_field(fields["answer"]) or "")
    if is_html and question != title:
        content = f"<p>{escape(question)}</p>{content}"
    media_type = "text/html" if is_html else "text/plain"
    return {"title": title, "content": content, "media_type": media_type, "question": question}


def _text_body(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the document's fields for a title with its plain text or Markdown. Raises
    DocumentInvalidError."""
    keys = [key for key in ("text", "markdown") if key in fields]
    if len(keys) > 1:
        raise DocumentInvalidError("it has text and markdown; write one of them")
    _refuse_missing(fields, ("id", "title", *keys))
    content, media_type = files.text_field(fields[keys[0]]) or "", "text/markdown"
    if keys == ["text"]:
        content, is_html = opened_markup(content)
        media_type = "text/html" if is_html else "text/plain"
    return {"title": files.text_field(fields["title"]), "content": content, "media_type": media_type}


def _refuse_missing(fields: Mapping[str, object], keys: Sequence[str]) -> None:
    missing = [key for key in keys if files.text_field(fields.get(key)) is None]
    if missing:
        raise DocumentInvalidError(f"missing or empty: {', '.join(missing)}")


def _item_field(item: ItemFacts | None) -> dict[str, object]:
    return {} if item is None else {"item": item}


def _shared_fields(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the document's fields that front matter, ``<meta>`` and JSON lines share. Raises
    DocumentInvalidError."""
    return {
        **{key: files.text_field(fields.get(key)) or "" for key in ("source", "type")},
        **{key: files.text_field(fields.get(key)) for key in _OPTIONAL},
        **front_matter.labels_of(fields),
        "questions": files.questions_field(fields.get("questions")),
    }
