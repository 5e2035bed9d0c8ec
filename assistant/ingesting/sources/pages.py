"""Markdown and HTML files: one document a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser

from assistant.domain.errors import DocumentInvalidError
from assistant.ingesting.parsing.html import parse_html
from assistant.ingesting.parsing.markdown import first_heading, parse_markdown
from assistant.ingesting.sources.front_matter import (
    FrontMatterError,
    labels_of,
    read_front_matter,
    refuse_near_labels,
)
from assistant.ingesting.sources.items import (
    LARGEST_DOCUMENT_BYTES,
    SourceItem,
    as_item,
    invalid,
    questions_field,
    text_field,
    too_large,
)

_UNSAFE_IN_ID = re.compile(r"[^\w.-]+")


def read_page(path: Path, *, name: str) -> SourceItem:
    """Return the document of one file; ``name`` is its path below the folder that is read."""
    try:
        if path.stat().st_size > LARGEST_DOCUMENT_BYTES:
            return too_large(name, LARGEST_DOCUMENT_BYTES)
        raw = path.read_bytes()
    except OSError as error:
        return invalid(name, f"cannot be read: {error.strerror}")
    try:
        content = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return invalid(f"{name}:{line}", f"not UTF-8 at byte {error.start}")
    read = _read_markdown if path.suffix.lower() in (".md", ".markdown") else _read_html
    try:
        return read(name, content)
    except DocumentInvalidError as error:
        return invalid(name, error.message)


def page_id(name: str) -> str:
    """Return the document id of a file: its path below the folder, without the ending, as a slug."""
    return _UNSAFE_IN_ID.sub("-", str(Path(name).with_suffix(""))).strip("-.") or "document"


def _read_markdown(name: str, content: str) -> SourceItem:
    try:
        page = read_front_matter(content)
    except FrontMatterError as error:
        return invalid(f"{name}:{error.line}", error.message)
    if not parse_markdown(page.body).sections:
        return invalid(name, "there is no text in it")
    title = text_field(page.meta.get("title")) or first_heading(page.body)
    return _page(name, page.meta, title=title, content=page.body, media_type="text/markdown")


def _read_html(name: str, content: str) -> SourceItem:
    if not parse_html(content).sections:
        return invalid(name, "there is no text in it")
    tree = LexborHTMLParser(content)
    meta: dict[str, object] = {}
    for node in tree.css("meta[name][content]"):
        key = (node.attributes["name"] or "").strip().lower()
        if key == "labels" and key in meta:
            return invalid(name, 'it has two <meta name="labels">')
        meta.setdefault(key, node.attributes["content"])
    refuse_near_labels(meta)
    if isinstance(asked := meta.get("questions"), str):
        meta["questions"] = [question for question in asked.split("|") if question.strip()]
    canonical = tree.css_first("link[rel=canonical][href]")
    if canonical is not None:
        meta["url"] = canonical.attributes["href"]
    headings = [tree.css_first(selector) for selector in ("title", "h1")]
    titles = [text_field(" ".join(node.text(deep=True).split())) for node in headings if node is not None]
    title = next((title for title in titles if title), None)
    return _page(name, meta, title=title, content=content, media_type="text/html")


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
            "labels": labels_of(meta),
            "questions": questions_field(meta.get("questions")),
        },
    )
