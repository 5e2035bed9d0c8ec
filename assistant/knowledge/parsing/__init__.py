"""Parses a document's body into plain text with sections and units. A format has a module each.

``python -m assistant.knowledge.parsing_child`` runs it in a process of its own.
"""

from __future__ import annotations

import re
from dataclasses import replace

from assistant.domain.documents import MISSING, Document, ParsedDocument
from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.parsing.html import parse_html
from assistant.knowledge.parsing.markdown import parse_markdown
from assistant.knowledge.parsing.text import TextBuilder

__all__ = ["parse_document", "parse_plain"]

_FLATTENED_ITEM = re.compile(r"\n?(?<![^\S\n])[^\S\n]{2,}+(?=- \s*\S)")
"""Two or more spaces before a dash: a list item whose line break a publisher's export lost."""


def parse_document(document: Document) -> ParsedDocument:
    """Return the document's text, parsed by its media type. Raises DocumentInvalidError if it has no text."""
    if document.media_type == "text/markdown":
        parsed = parse_markdown(document.content)
    elif document.media_type == "text/html":
        parsed = parse_html(document.content)
    else:
        parsed = parse_plain(document)
    body = "".join(parsed.text[section.span.start : section.span.end] for section in parsed.sections)
    if not body.replace(MISSING, "").strip():
        raise DocumentInvalidError(f"{document.document_id}: there is no text in it.")
    return replace(parsed, labels=document.labels, original=document.original)


def parse_plain(document: Document) -> ParsedDocument:
    """Return plain text in one section. A question that is not the title comes before the answer."""
    builder = TextBuilder()
    if document.question is not None and document.question != document.title:
        builder.block(document.question)
    for block in re.split(r"\n\s*\n", _FLATTENED_ITEM.sub("\n", document.content)):
        builder.plain_block(block)
    return builder.build()
