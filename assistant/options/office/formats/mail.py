"""Converts e-mails by the standard library: what the sender wrote, apart from older mails.

A lead is what stands above an older mail: a line such as "On 3 May, Olga wrote:", a line such as
"-----Original Message-----", or several fields such as "From: …". Leads are found by the library
mail-parser-reply.

    Yes, until Friday.                       Paragraph
    On 3 May 2026, Olga <o@x.org> wrote:     OlderText (a lead)
    > Is it open?                            OlderText, and a Paragraph "> Is it open?" for the answer below
    No.                                      Paragraph
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage, Message, MIMEPart
from email.policy import default
from functools import reduce
from itertools import groupby, zip_longest
from typing import Any, NamedTuple, cast

from assistant.documents import page as model
from assistant.documents.formats.text_files import decoded, decoded_page, text_blocks
from assistant.documents.parsing.html import read_html
from assistant.documents.parsing.render import words_in
from assistant.domain.errors import DocumentInvalidError
from assistant.text.language import word_groups

_FACTS = ("From", "To", "Cc", "Date")
"""Header fields that become the first paragraph."""
_FLOWING = re.compile(r"(?m)(?<!^--) \n")
"""A line's end after which it goes on, in ``format=flowed``. "-- " is the line above a signature."""
_MUCH_LONGER = 1.5
"""The plain text is read in place of the HTML part where it has this many times its words."""
_QUOTED = re.compile(r">(?!\s*=?\s*\d)")
"""The begin of a line of an older mail. "> 65 years" may be a comparison."""
_ASKING = ("?", "\u061f", "\uff1f")
"""Ends of a question: Latin, Arabic, full width."""
_SENTENCE = re.compile(r"(?<=[.!?\u061f\uff1f])\s+|\n\s*\n")
_FORWARDED = re.compile(r"(?:fwd?|wg|tr|rv|i|vb|vs) ?:", re.IGNORECASE)
"""The begin of a forwarded mail's subject, by the language of its program."""
_FIELD = re.compile(r"^[>* ]{0,20}[^\W\d_][^\n:]{1,20}:", re.MULTILINE)
"""The begin of a field: "From:", "> *Gesendet:"."""
_ANY_LANGUAGE = re.compile(
    r"^(?=[^\n]*(?:\d{4}|\d[:.h]\d\d))(?:[^\n]*\n)?[^\n]*"
    r"(?:<[^<>@\s]{1,64}@[^<>\s]{1,255}>\)?[^\n]{0,20}|\b(?:escreveu|escribi\u00f3)):$",
    re.MULTILINE,
)
"""A lead of any language: one or two lines with a date or time, then an address, such as
"El 2 mar 2026, Olga (<o@x.org>) escribi\u00f3:"; or a word for "wrote" that the library does not know."""
_HEADER = re.compile(
    r"^(?P<rule>_{10,}\n)?(?P<fields>(?:[>* ]{0,20}[^\W\d_][^\n:]{0,24}:[^\n]*(?:\n|\Z)){3,9})",
    re.MULTILINE,
)
"""Three or more fields, below a line that separates mails or not."""
_MOMENT = re.compile(r"\d{4}[^\n]*\d\d?[:.h]\d\d|\d\d?[:.h]\d\d[^\n]*\d{4}")
_LABEL = re.compile(r"^[>* ]*([^\W\d_][^\n:*]*)", re.MULTILINE)
_RULED = re.compile(
    r"<div\b[^<>]{0,400}(?:\bid=[\"']?(?:x_)?(?:divRplyFwdMsg|appendonsend)\b|border:\s*none;\s*border-top:\s*solid)"
    r"[^<>]{0,400}>",
    re.IGNORECASE,
)
"""What programs draw above an older mail in HTML."""
_RULE = "_" * 20
_LEAST_FIELDS = 3
"""Lines such as "From: …" above an older mail. Two may be opening hours: "From: 9:00", "To: 17:00"."""
_LONGEST_LEAD = 300
"""Characters of a line above an older mail. The library takes 19 s for a line of 40,000."""
_MAY_LEAD = re.compile(r"^-----|^____|^[^:]{1,26}:|:$")
"""Dashes, a field, or a colon at the end. Only a line with one of them, and the line before it, is given to
the library, which takes 5 s for a megabyte of other lines."""


def convert_eml(raw: bytes) -> model.Page:
    """Return an e-mail: its subject as the title, sender and date, and its text.

    Of parts with the same content the richest is read: the HTML part, unless it says much less. Attachments
    are losses. Raises DocumentInvalidError for a file that is no e-mail, or one without text.
    """
    losses: list[model.Loss] = []
    try:
        message = message_from_bytes(raw, policy=default)
        if not any(name in message for name in ("from", "subject", "date")):
            problem = "it is not an e-mail: it has no From, Subject or Date"
            raise DocumentInvalidError(f"{problem}. Export it again.")
        blocks = tuple(filter(_is_no_rule, _with_questions(_without_older(_read(message, losses), message))))
        page = model.Page(
            (_facts(message, _FACTS), *blocks), model.title_of(message["subject"]), losses=tuple(losses)
        )
    except (LookupError, RecursionError, UnicodeError, ValueError) as error:
        problem = f"its parts cannot be read ({type(error).__name__})"
        raise DocumentInvalidError(f"{problem}. Export the e-mail again, or save its text.") from None
    if not _words(blocks):
        raise DocumentInvalidError("the e-mail has no text. Add its attachments as files of their own.")
    return page


def _is_no_rule(block: model.Block) -> bool:
    return not isinstance(block, model.Paragraph) or model.text_of(block.runs).strip("_ ") != ""


def _facts(message: Message, names: Sequence[str]) -> model.Paragraph:
    """Return the header fields of these names that the mail has, a line each: "From: Olga <o@x.org>"."""
    return model.Paragraph(
        model.plain("\n".join(f"{name}: {message[name]}" for name in names if name in message))
    )


def _read(part: EmailMessage | MIMEPart, losses: list[model.Loss]) -> tuple[model.Block, ...]:
    """Return the text of a part and the parts in it; add what is not read to ``losses``. A mail in the mail
    is read like one: its subject is the first of its fields."""
    kind = part.get_content_type()
    if part.get_content_maintype() == "multipart":
        inner = [_read(child, losses) for child in part.iter_parts()]
        if kind != "multipart/alternative" or not inner:
            return tuple(block for blocks in inner for block in blocks)
        return reduce(_richer, inner)
    if kind == "message/rfc822":
        inner_mail = cast("EmailMessage", part.get_content())
        blocks = _without_older(_read(inner_mail, losses), inner_mail)
        return (_facts(inner_mail, ("Subject", *_FACTS)), *blocks)
    name = part.get_filename()
    if name or part.is_attachment() or kind not in ("text/plain", "text/html"):
        if kind != "text/calendar":  # it says what the text beside it says
            losses.append(model.Loss(f"attachment {name or kind} was not read"))
        return ()
    text = _decoded(part)
    if kind == "text/html":
        page = read_html(_RULED.sub(rf"\g<0><p>{_RULE}</p>", text), is_whole=False)
        losses += page.losses
        return page.blocks
    if part.get_param("format") == "flowed":
        text = _unflowed(text, joins_words=part.get_param("delsp") == "yes")
    return tuple(_quotes_apart(text))


def _richer(first: tuple[model.Block, ...], last: tuple[model.Block, ...]) -> tuple[model.Block, ...]:
    """Return the last of two forms of a text, which is the richer one (RFC 2046, 5.1.4), unless it says much
    less."""
    return first if _words(first) > _MUCH_LONGER * _words(last) else last


def _words(blocks: Iterable[model.Block]) -> int:
    """Return how many words of the blocks are in force."""
    current = (block for block in blocks if not isinstance(block, model.OlderText))
    runs = (run for line in model.all_runs(current) for run in line if run.is_in_force)
    return sum(words_in(run.text) for run in runs)


def _decoded(part: MIMEPart) -> str:
    """Return the text of a part by its declared encoding, else as that of a file."""
    raw, charset = part.get_payload(decode=True), part.get_content_charset()
    content = raw if isinstance(raw, bytes) else b""
    is_page = charset is None and part.get_content_type() == "text/html"
    return decoded_page(content) if is_page else decoded(content, declared=charset)


def _unflowed(text: str, *, joins_words: bool) -> str:
    """Return text of ``format=flowed`` (RFC 3676), whose lines go on where they end with a space. Lines of
    another depth of ">" are never joined. ``joins_words`` (delsp): the space at the end is no part of the
    text, as in Chinese."""
    parts: list[str] = []
    for depth, group in groupby(text.splitlines(), key=lambda line: len(line) - len(line.lstrip(">"))):
        words = "\n".join(line[depth:].removeprefix(" ") for line in group)
        joined = _FLOWING.sub("" if joins_words else " ", words)
        parts += (">" * depth + line for line in joined.split("\n"))
    return "\n".join(parts)


def _quotes_apart(text: str) -> Iterable[model.Block]:
    """Yield the blocks of plain text; lines that begin with ">" are an older mail, unless each of them may be
    a comparison."""
    stripped = (line.strip() for line in text.splitlines())
    for is_marked, group in groupby(stripped, key=lambda line: line.startswith(">")):
        lines = list(group)
        if is_marked and any(map(_QUOTED.match, lines)):
            yield model.OlderText(text_blocks("\n".join(line.lstrip("> ") for line in lines)))
        else:
            yield from text_blocks("\n".join(lines))


# Older mails


def _without_older(blocks: tuple[model.Block, ...], message: Message) -> tuple[model.Block, ...]:
    """Return the blocks with each older mail as one block.

    In a forwarding, and in a mail without other text, the first lead begins the mail that is passed on: that
    mail is no older one.
    """
    marked = _with_older_text(blocks, skipped_leads=0)
    if not _FORWARDED.match(str(message["subject"] or "").strip()) and _words(marked):
        return marked
    opened = (block.blocks if isinstance(block, model.OlderText) else (block,) for block in blocks)
    return _with_older_text(tuple(block for inner in opened for block in inner), skipped_leads=1)


def _with_older_text(blocks: tuple[model.Block, ...], *, skipped_leads: int) -> tuple[model.Block, ...]:
    """Return the blocks with each lead, and the rest after it, as older text; the first leads are skipped.

    A lead above a block of older text (marked by ">") is added to it alone: the rest may be answers below the
    lines that it quotes.
    """
    leads = _leads(blocks)[skipped_leads:]
    start_by_block = dict(reversed(leads))  # of two leads in a block the first one
    result: list[model.Block] = []
    for at, block in enumerate(blocks):
        if at not in start_by_block or not isinstance(block, model.Paragraph):
            result.append(block)
            continue
        before, lead = _cut(block.runs, start_by_block[at])
        result += [model.Paragraph(before)] if before else []
        if not any(isinstance(below, model.OlderText) for below in blocks[at + 1 : at + 2]):
            return (*result, model.OlderText((model.Paragraph(lead), *blocks[at + 1 :])))
        result.append(model.OlderText((model.Paragraph(lead),)))
    return tuple(result)


def _with_questions(blocks: Sequence[model.Block]) -> Iterator[model.Block]:
    """Yield the blocks. After older text that an answer follows, yield its questions too, as paragraphs such
    as "> Is it open?": without them "No." would seem to answer another question."""
    for block, below in zip_longest(blocks, blocks[1:]):
        yield block
        if (
            isinstance(block, model.OlderText)
            and below is not None
            and not isinstance(below, model.OlderText)
        ):
            sentences = _SENTENCE.split("\n\n".join(map(model.text_of, model.all_runs(block.blocks))))
            questions = (
                " ".join(sentence.split()) for sentence in sentences if sentence.rstrip().endswith(_ASKING)
            )
            yield from (model.Paragraph(model.plain(f"> {question}")) for question in questions)


class _Line(NamedTuple):
    """A line of the blocks' text."""

    block: int
    """Position of its block."""
    start: int
    """Its first character in the text of its block."""
    text: str
    """With single spaces."""


def _leads(blocks: Sequence[model.Block]) -> list[tuple[int, int]]:
    """Return where leads begin, in order: the position of the block, and the character of its text."""
    lines = _lines_of(blocks)
    text = _searched_text(lines)
    starts: list[tuple[int, int]] = []
    dashes_end = -1  # of "-----Original Message-----": the fields that follow at once belong to it
    for match in _lead_matches(text):
        if _is_lead(match[0].strip()) and match.start() != dashes_end:
            line = lines[
                text.count("\n", 0, _first_letter(match))
            ]  # ``text`` has a line for each of ``lines``
            starts.append((line.block, line.start))
        dashes_end = match.end() if match[0].startswith("-----") else -1
    return list(dict.fromkeys(starts))


def _lines_of(blocks: Sequence[model.Block]) -> list[_Line]:
    """Return the lines of paragraphs; any other block is an empty line."""
    lines: list[_Line] = []
    for at, block in enumerate(blocks):
        start = 0
        for line in (model.text_of(block.runs) if isinstance(block, model.Paragraph) else "").split("\n"):
            lines.append(_Line(at, start, " ".join(line.split())))
            start += len(line) + 1
    return lines


def _searched_text(lines: Sequence[_Line]) -> str:
    """Return the lines in which leads are searched, with "." for each one that cannot be of a lead."""
    may_lead = [len(line.text) <= _LONGEST_LEAD and _MAY_LEAD.search(line.text) for line in lines]
    return "\n".join(line.text if any(may_lead[at : at + 2]) else "." for at, line in enumerate(lines))


def _lead_matches(text: str) -> list[re.Match[str]]:
    """Return what may be a lead, in order: by the library's languages, and by the form of any other."""
    from mailparser_reply.constants import MAIL_LANGUAGES  # pyright: ignore[reportMissingTypeStubs]
    from mailparser_reply.parser import EmailMessage as ReplyReader  # pyright: ignore[reportMissingTypeStubs]

    reader: Any = ReplyReader(text, languages=list(MAIL_LANGUAGES))
    starts = (line.start() for line in re.finditer("(?m)^", text))
    headers = (match for start in starts if (match := _HEADER.match(text, start)) and _is_header(match))
    matches = [*headers, *_ANY_LANGUAGE.finditer(text)]
    matches += cast("re.Pattern[str]", reader.HEADER_REGEX).finditer(text)
    kept: list[re.Match[str]] = []
    for match in sorted(matches, key=lambda match: (_first_letter(match), -match.end())):
        if not kept or _first_letter(match) >= kept[-1].end():  # else another form of the same lead
            kept.append(match)
    return kept


def _first_letter(match: re.Match[str]) -> int:
    return match.end() - len(match[0].lstrip())


def _is_header(match: re.Match[str]) -> bool:
    """Return whether fields are the header of a mail: by a moment in one of them, and a line above or an
    address in the first; else by the names of the sender and subject."""
    fields = match["fields"]
    is_apart = match["rule"] is not None or "@" in fields.partition("\n")[0]
    return (is_apart and _MOMENT.search(fields) is not None) or _has_names(fields) is True


def _has_names(fields: str) -> bool | None:
    """Return whether fields have the names of a header; None if the first name is not known."""
    known = word_groups("mail_fields")
    first, *others = (label.lower().split()[0] for label in _LABEL.findall(fields))
    return not known["later"].isdisjoint(others) if first in known["sender"] else None


def _is_lead(lead: str) -> bool:
    """Return whether a match is a line of dashes, one or two lines that end in ":", or enough fields."""
    is_line = lead.startswith("---") or (lead.endswith(":") and lead.count("\n") <= 1)
    return is_line or (len(_FIELD.findall(lead)) >= _LEAST_FIELDS and _has_names(lead) is not False)


def _cut(runs: model.Runs, at: int) -> tuple[model.Runs, model.Runs]:
    """Return the runs before and after a character of their text."""
    before, after = list[model.Run](), list[model.Run]()
    for run in runs:
        before.append(replace(run, text=run.text[: max(at, 0)]))
        after.append(replace(run, text=run.text[max(at, 0) :]))
        at -= len(run.text)
    return model.trimmed(before), model.trimmed(after)
