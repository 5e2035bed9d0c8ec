"""Parses a document's body into plain text with sections and units. A format has a module each.

``python -m assistant.documents.parsing_child`` runs it in a process of its own.
"""

from __future__ import annotations

import re
from dataclasses import replace

from assistant.documents.page import Page, Paragraph, plain
from assistant.documents.parsing.html import read_html
from assistant.documents.parsing.markdown import read_markdown
from assistant.documents.parsing.render import Rendered, render
from assistant.domain.documents import MISSING, Document, ParsedDocument
from assistant.domain.errors import DocumentInvalidError

__all__ = ["parse_document", "read_page", "render_document"]

_FLATTENED_ITEM = re.compile(r"\n?(?<![^\S\n])[^\S\n]{2,}+(?=- \s*\S)")
"""Two or more spaces before a dash: a list item whose line break a publisher's export lost."""


def parse_document(document: Document) -> ParsedDocument:
    """Return the document's text. Raises DocumentInvalidError if it has none."""
    parsed = render_document(document).parsed
    body = "".join(parsed.text[section.span.start : section.span.end] for section in parsed.sections)
    if not body.replace(MISSING, "").strip():
        raise DocumentInvalidError(f"{document.document_id}: there is no text in it.")
    return replace(parsed, labels=document.labels, original=document.original)


def render_document(document: Document) -> Rendered:
    """Return the text of a document's page, and what it leaves out. Raises DocumentInvalidError."""
    return render(read_page(document))


def read_page(document: Document) -> Page:
    """Return a document's page, read by its media type. Raises DocumentInvalidError."""
    match document.media_type:
        case "text/markdown":
            return read_markdown(document.content)
        case "text/html":
            return read_html(document.content)
        case "application/vnd.page+json":
            return Page.from_bytes(document.content)
        case "text/plain":
            return _plain_page(document)


def _plain_page(document: Document) -> Page:
    """Return plain text in one section. A question that is not the title comes before the answer."""
    asked = document.question is not None and document.question != document.title
    blocks = re.split(r"\n\s*\n", _FLATTENED_ITEM.sub("\n", document.content))
    first = (Paragraph(plain(document.question or "")),) if asked else ()
    return Page((*first, *(Paragraph(plain(block), is_plain=True) for block in blocks)))
