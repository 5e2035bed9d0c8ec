"""Converts e-mails by the standard library: what the sender wrote, apart from older mails.

A lead is what stands above an older mail: a line such as "On 3 May, Olga wrote:", or several fields such as
"From: …", which may be below a line such as "-----Original Message-----".

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
from itertools import chain, filterfalse, groupby, takewhile, zip_longest
from typing import NamedTuple, cast

from assistant.documents import page as model
from assistant.documents.formats.text_files import decoded, decoded_page, text_blocks
from assistant.documents.parsing.html import read_html
from assistant.documents.parsing.render import words_in
from assistant.documents.whole import is_stroke
from assistant.domain.errors import DocumentInvalidError
from assistant.text.language import word_groups

_FACTS = ("From", "To", "Cc", "Date")
"""Header fields that become the first paragraph."""
_FLOWING = re.compile(r"(?m)(?<!^--) \n")
"""A line's end after which it goes on, in ``format=flowed``. "-- " is the line above a signature."""
_MUCH_LONGER = 1.5
"""The plain text is read in place of the HTML part where it has this many times its words."""
_QUOTED = re.compile(r">(?!\s*=?\s*\d(?!\d?[.)]\s))")
"""The begin of a line of an older mail. "> 65 years" may be a comparison, "> 1. Is it open?" is none."""
_MARK, _MARKS = re.compile(r"\A\s*> ?"), re.compile(r"\A\s*>(?: ?>)* ?")
"""The first mark of a line of an older mail, and all of them."""
_ASKING = ("?", "\u061f", "\uff1f")
"""Ends of a question: Latin, Arabic, full width."""
_ASKED = re.compile(r"[?\u061f\uff1f](?:\s|\Z)")
_SENTENCE = re.compile(r"(?<=[.!?\u061f\uff1f])\s+|\n\s*\n")
_PREFIX = re.compile(r"(?:\[[^\[\]]{1,30}\] ?)?\[?(\w{1,9})(?:\[\d+\])? ?[:\uff1a]")
"""The begin of the subject of an answer or a forwarded mail, by its program: "WG:", "[EXT] Re:"."""
_MOST_POINTING = 25
"""Words of a mail that may say no more than to read the one below; in an answer _MOST_ANSWERED."""
_MOST_ANSWERED = 4
_TIMES_LONGER = 5
"""The mail below has this many times the words of the one that only points to it."""
_ENDS = (":", "\uff1a")
_FIELD = re.compile(r"[>* ]{0,20}([^\W\d_][^\n:\uff1a]{0,24})[:\uff1a]")
"""A field of a header: "From:", "> *Gesendet:"."""
_DRAWN = ("---", "___")
"""Begin and end of a line that separates mails: "-----Original Message-----"."""
_MOMENT = re.compile(r"\d{4}[^\n]*\d\d?[:.h]\d\d|\d\d?[:.h]\d\d[^\n]*\d{4}")
_DAY = re.compile(r"\d{4}|\d[:.h]\d\d")
_ADDRESS = re.compile(r"<[^<>@\s]{1,64}@[^<>\s]{1,255}>\)?.{0,20}\Z")
"""An address near the end of a line."""
_RULED = re.compile(
    r"<div\b[^<>]{0,400}(?:\bid=[\"']?(?:x_)?(?:divRplyFwdMsg|appendonsend)\b|border:\s*none;\s*border-top:\s*solid)"
    r"[^<>]{0,400}>",
    re.IGNORECASE,
)
"""What programs draw above an older mail in HTML."""
_FEWEST_FIELDS = 3
"""Lines such as "From: …" above an older mail. Two may be opening hours: "From: 9:00", "To: 17:00"."""
_MOST_FIELDS = 9
_LONGEST_LEAD = 300
"""Characters of a line above an older mail."""


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
        blocks = tuple(
            filterfalse(is_stroke, _with_questions(_without_older(_read(message, losses), message)))
        )
        page = model.Page(
            (_facts(message, _FACTS), *blocks), model.title_of(message["subject"]), losses=tuple(losses)
        )
    except (LookupError, RecursionError, UnicodeError, ValueError) as error:
        problem = f"its parts cannot be read ({type(error).__name__})"
        raise DocumentInvalidError(f"{problem}. Export the e-mail again, or save its text.") from None
    if not _words(blocks):
        raise DocumentInvalidError("the e-mail has no text. Add its attachments as files of their own.")
    return page


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
        page = read_html(_RULED.sub(rf"\g<0><p>{'_' * 20}</p>", text), is_whole=False)
        losses += page.losses
        return page.blocks
    if part.get_param("format") == "flowed":
        text = _unflowed(text, joins_words=part.get_param("delsp") == "yes")
    return tuple(_quotes_apart(text))


def _richer(first: tuple[model.Block, ...], last: tuple[model.Block, ...]) -> tuple[model.Block, ...]:
    """Return the last of two forms of a text, which is the richer one (RFC 2046, 5.1.4), unless it says much
    less.

    Its older mail is that of the first where only that tells the answers between the lines of the older mail:
    HTML may tell them by their color alone.
    """
    (said, below), (new, older) = (
        _at_older(_with_older_text(each, skipped_leads=0)) for each in (first, last)
    )
    if said and older and _words(below) and not _words(older):
        return (*new, *below)
    return first if _words(first) > _MUCH_LONGER * _words(last) else last


def _at_older(blocks: tuple[model.Block, ...]) -> tuple[tuple[model.Block, ...], tuple[model.Block, ...]]:
    """Return the blocks above the first older text, and the others."""
    above = tuple(takewhile(lambda block: not isinstance(block, model.OlderText), blocks))
    return above, blocks[len(above) :]


def _said(blocks: Iterable[model.Block]) -> str:
    """Return the words of the blocks that are in force."""
    current = (block for block in blocks if not isinstance(block, model.OlderText))
    return " ".join(run.text for line in model.all_runs(current) for run in line if run.is_in_force)


def _words(blocks: Iterable[model.Block]) -> int:
    return words_in(_said(blocks))


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


def _quotes_apart(text: str, mark: re.Pattern[str] = _MARK) -> Iterable[model.Block]:
    """Yield the blocks of plain text; lines that begin with ">" are an older mail, unless each of them may be
    a comparison. An older mail may have an older one in it."""
    for is_marked, group in groupby(text.splitlines(), key=lambda line: line.lstrip().startswith(">")):
        lines = list(group)
        if is_marked and any(_QUOTED.match(line.lstrip()) for line in lines):
            older = "\n".join(mark.sub("", line) for line in lines)
            yield model.OlderText(tuple(_quotes_apart(older, _MARKS)))
        else:
            yield from text_blocks("\n".join(lines))


# Older mails


def _without_older(blocks: tuple[model.Block, ...], message: Message) -> tuple[model.Block, ...]:
    """Return the blocks with each older mail as one block.

    The first lead of a forwarding begins the mail that is passed on: that mail is no older one, and gets a
    heading. So it is in a mail that says next to nothing itself, unless it may answer a question of the mail
    below.
    """
    marked = _with_older_text(blocks, skipped_leads=0)
    opened = (block.blocks if isinstance(block, model.OlderText) else (block,) for block in blocks)
    passed_on = _with_older_text(_below_heading([*chain.from_iterable(opened)]), skipped_leads=1)
    prefix = _PREFIX.match(str(message["subject"] or "").strip())
    is_forwarded = prefix is not None and prefix[1].lower() in word_groups("mail_fields")["forwarded"]
    most = _MOST_ANSWERED if prefix or "In-Reply-To" in message else _MOST_POINTING
    said, below = _said(marked), _said(passed_on)
    is_pointer = len(said.split()) <= most and not any(map(str.isdigit, said)) and not _ASKED.search(below)
    is_short = len(said.split()) * (_TIMES_LONGER + 1) <= len(below.split())
    return passed_on if is_forwarded or not said.strip() or (is_pointer and is_short) else marked


def _below_heading(blocks: Sequence[model.Block]) -> Sequence[model.Block]:
    """Return the blocks with a heading above the first lead: its first field, and the one with the day."""
    for at, start, lines in _leads(blocks)[:1]:
        block = blocks[at]
        before, rest = _cut(block.runs if isinstance(block, model.Paragraph) else (), start)
        fields = [line for line in lines if not line.startswith(_DRAWN)]
        name = dict.fromkeys([*fields[:1], *filter(_DAY.search, fields[1:])][:2])
        heading = model.Heading(2, model.plain(", ".join(name)))
        return [*blocks[:at], model.Paragraph(before), heading, model.Paragraph(rest), *blocks[at + 1 :]]
    return blocks


def _with_older_text(blocks: Sequence[model.Block], *, skipped_leads: int) -> tuple[model.Block, ...]:
    """Return the blocks with each lead, and the rest after it, as older text; the first leads are skipped.

    A lead above a block of older text (marked by ">") is added to it alone: the rest may be answers below the
    lines that it quotes.
    """
    leads = _leads(blocks)[skipped_leads:]
    start_by_block = {at: start for at, start, _ in reversed(leads)}  # of two leads in a block the first one
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
    is_above_older: bool
    """Whether it is directly above lines that are marked as those of an older mail."""


def _leads(blocks: Sequence[model.Block]) -> list[tuple[int, int, list[str]]]:
    """Return where leads begin, in order: the position of the block, the character of its text, and the
    lead's lines."""
    lines, leads, at = _lines_of(blocks), list[tuple[int, int, list[str]]](), 0
    while at < len(lines):
        end = _lead_end(lines, at)
        if end > at:
            leads.append((lines[at].block, lines[at].start, [line.text for line in lines[at:end]]))
        at = max(end, at + 1)
    return leads


def _lead_end(lines: Sequence[_Line], at: int) -> int:
    """Return the end of the lead that begins at a line; ``at`` where none does."""
    line = lines[at]
    is_drawn = line.text.startswith(_DRAWN) and line.text.endswith(_DRAWN) and line.text.strip("-") != ""
    begin = at + is_drawn
    fields = [*takewhile(_FIELD.match, (each.text for each in lines[begin : begin + _MOST_FIELDS]))]
    if _is_header(fields, is_drawn=is_drawn):
        return begin + len(fields)
    for end in (at + 1, at + 2):
        text = " ".join(each.text for each in lines[at:end])
        if text.endswith(_ENDS) and len(text) <= _LONGEST_LEAD:
            has_word = not word_groups("mail_fields")["wrote"].isdisjoint(re.findall(r"\w+", text.lower()))
            if _DAY.search(line.text) and (has_word or _ADDRESS.search(text)):
                return end
            if end == at + 1 and line.is_above_older:
                return end
    return at


def _lines_of(blocks: Sequence[model.Block]) -> list[_Line]:
    """Return the lines of paragraphs; any other block is an empty line."""
    lines: list[_Line] = []
    for at, (block, below) in enumerate(zip_longest(blocks, blocks[1:])):
        text = model.text_of(block.runs) if isinstance(block, model.Paragraph) else ""
        start = 0
        for line in text.split("\n"):
            end = start + len(line)
            is_above = isinstance(below, model.OlderText) and not text[end:].strip()
            lines.append(_Line(at, start, " ".join(line.split()), is_above))
            start = end + 1
    return lines


def _is_header(fields: Sequence[str], *, is_drawn: bool) -> bool:
    """Return whether fields are the header of a mail: by a moment in one of them, and a line drawn above or
    an address in the first; else by the names of the sender and subject."""
    if len(fields) < _FEWEST_FIELDS:
        return False
    known = word_groups("mail_fields")
    names = [name[1].lower().split()[0] for field in fields if (name := _FIELD.match(field))]
    is_apart = is_drawn or "@" in fields[0]
    has_names = names[0] in known["sender"] and not known["later"].isdisjoint(names)
    return has_names or (is_apart and any(map(_MOMENT.search, fields)))


def _cut(runs: model.Runs, at: int) -> tuple[model.Runs, model.Runs]:
    """Return the runs before and after a character of their text."""
    before, after = list[model.Run](), list[model.Run]()
    for run in runs:
        before.append(replace(run, text=run.text[: max(at, 0)]))
        after.append(replace(run, text=run.text[max(at, 0) :]))
        at -= len(run.text)
    return model.trimmed(before), model.trimmed(after)
