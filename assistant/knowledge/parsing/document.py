"""Choose the parser of a document's media type."""

from __future__ import annotations

from assistant.domain.documents import Document, ParsedDocument
from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.parsing.html import parse_html
from assistant.knowledge.parsing.markdown import parse_markdown
from assistant.knowledge.parsing.plain import parse_plain


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
