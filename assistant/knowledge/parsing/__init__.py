"""Canonical document → plain text with sections."""

from __future__ import annotations

import re

from assistant.domain.documents import Document, ParsedDocument
from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.parsing.html import parse_html
from assistant.knowledge.parsing.markdown import parse_markdown
from assistant.knowledge.parsing.text import TextBuilder

__all__ = ["parse_document"]


# Choose the parser of a document's media type.


def parse_document(document: Document) -> ParsedDocument:
    """Return the document's text with its sections.

    Raises DocumentInvalidError when there is no text in it.
    """
    if document.media_type == "text/markdown":
        parsed = parse_markdown(document.content)
    elif document.media_type == "text/html":
        parsed = parse_html(document.content)
    else:
        parsed = parse_plain(document)
    if not parsed.sections:
        raise DocumentInvalidError(f"{document.document_id}: there is no text in it.")
    return parsed


# Plain text: the answer of a question-and-answer pair.


_FLATTENED_ITEM = re.compile(r"\n?(?<![^\S\n])[^\S\n]{2,}+(?=- \s*\S)")
"""Two spaces or more before a dash are what is left of a list whose line ends a publisher's export lost."""


def parse_plain(document: Document) -> ParsedDocument:
    """Return the text in one section. A question that the title does not hold stands before the answer."""
    builder = TextBuilder()
    if document.question is not None and document.question != document.title:
        builder.block(document.question)
    for block in re.split(r"\n\s*\n", _FLATTENED_ITEM.sub("\n", document.content)):
        builder.plain_block(block)
    return builder.build()
