"""Markdown and HTML files: one document a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from selectolax.lexbor import LexborHTMLParser

from assistant.domain.errors import DocumentInvalidError
from assistant.ingesting.parsing.html import parse_html
from assistant.ingesting.parsing.markdown import first_heading, parse_markdown
from assistant.ingesting.sources.items import (
    LARGEST_DOCUMENT_BYTES,
    SourceItem,
    as_item,
    invalid,
    labels_field,
    questions_field,
    text_field,
    too_large,
)

LONGEST_FRONT_MATTER_CHARS = 64_000
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
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
    meta: Mapping[str, object] = {}
    body = content
    if content.startswith("---\n"):
        found = _FRONT_MATTER.match(content)
        if found is None or len(found[1]) > LONGEST_FRONT_MATTER_CHARS:
            return invalid(f"{name}:1", "the front matter has no closing line of ---")
        try:
            meta = _front_matter(found[1])
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 2 if error.problem_mark else 1
            return invalid(f"{name}:{line}", f"the front matter is not YAML: {error.problem}")
        except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
            return invalid(f"{name}:1", f"the front matter cannot be read: {error}")
        body = content[found.end() :]
    if not parse_markdown(body).sections:
        return invalid(name, "there is no text in it")
    title = text_field(meta.get("title")) or first_heading(body)
    return _page(name, meta, title=title, content=body, media_type="text/markdown")


def _front_matter(text: str) -> Mapping[str, object]:
    data: Any = yaml.safe_load(text)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise TypeError("it is not a mapping of keys to values")
    return {str(key): value for key, value in cast(Mapping[object, object], data).items()}


def _read_html(name: str, content: str) -> SourceItem:
    if not parse_html(content).sections:
        return invalid(name, "there is no text in it")
    tree = LexborHTMLParser(content)
    meta: dict[str, object] = {}
    for node in tree.css("meta[name][content]"):
        meta.setdefault((node.attributes["name"] or "").lower(), node.attributes["content"])
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
    date = meta.get("effective_date")
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
            "effective_date": text_field(date) if isinstance(date, str) else date,
            "labels": labels_field(meta.get("labels")),
            "questions": questions_field(meta.get("questions")),
        },
    )
