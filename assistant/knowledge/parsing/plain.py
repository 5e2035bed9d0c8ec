"""Plain text: the answer of a question-and-answer pair."""

from __future__ import annotations

import re

from assistant.domain.documents import Document, ParsedDocument
from assistant.knowledge.parsing.text import TextBuilder

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
