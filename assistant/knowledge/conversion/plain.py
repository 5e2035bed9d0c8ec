"""Converts plain text and e-mails by the standard library."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage, MIMEPart
from email.policy import default
from html import escape

from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.conversion.markup import Converted, paragraphs, title_of

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WITHOUT_MARK = ("utf-8", "cp1252")
"""UTF-8 first: text of Windows-1252 with a letter above ASCII is almost never valid UTF-8."""


def decoded(raw: bytes) -> str:
    """Return text by its byte order mark, else as UTF-8, else as Windows-1252.

    Raises DocumentInvalidError for bytes that are none of these.
    """
    marked = [encoding for mark, encoding in _MARKS if raw.startswith(mark)]
    if marked or b"\0" not in raw:
        for encoding in marked or _WITHOUT_MARK:
            try:
                return raw.decode(encoding)
            except UnicodeDecodeError:
                continue
    problem = "its encoding is unknown: not UTF-8, UTF-16 or Windows-1252"
    raise DocumentInvalidError(f"{problem}. Save it as UTF-8.")


def convert_txt(raw: bytes) -> Converted:
    """Return plain text; its first line is the title. Raises DocumentInvalidError."""
    text = decoded(raw)
    first = next((line for line in text.splitlines() if line.strip()), "")
    return Converted(title_of(first), paragraphs(text))


def convert_eml(raw: bytes) -> Converted:
    """Return an e-mail: its subject as the title, sender and date, and its text.

    The plain text is preferred to the HTML part. Attachments are named in the notes. Raises
    DocumentInvalidError for a file that is no e-mail, or one without text.
    """
    try:
        message = message_from_bytes(raw, policy=default)
        if not any(name in message for name in ("from", "subject", "date")):
            problem = "it is not an e-mail: it has no From, Subject or Date"
            raise DocumentInvalidError(f"{problem}. Export it again.")
        body = message.get_body(("plain", "html"))
        text = "" if body is None else _body(body)
        notes = tuple(f"attachment {name} was not read" for name in _attachments(message))
    except (LookupError, RecursionError, UnicodeError, ValueError) as error:
        problem = f"its parts cannot be read ({type(error).__name__})"
        raise DocumentInvalidError(f"{problem}. Export the e-mail again, or save its text.") from None
    if not text.strip():
        raise DocumentInvalidError("the e-mail has no text. Add its attachments as files of their own.")
    facts = [f"{name}: {message[name]}" for name in ("From", "To", "Date") if name in message]
    return Converted(title_of(message["subject"]), f"<p>{'<br>'.join(map(escape, facts))}</p>\n{text}", notes)


def _body(part: MIMEPart) -> str:
    content = part.get_content()
    if part.get_content_type() != "text/html":
        return paragraphs(content)
    from turbohtml import parse

    body = parse(content).find("body")
    return "" if body is None else body.inner_html


def _attachments(message: EmailMessage) -> Iterator[str]:
    for part in message.iter_attachments():
        yield part.get_filename() or part.get_content_type()
