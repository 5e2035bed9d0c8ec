"""Reads a pasted chat into turns by its layout alone: names that come again, times, separators, quoting.

Each line is read in each of several *styles* (``_STYLES``): a style says where in a line a speaker is named.
What it finds is a *head*. The style whose heads explain most lines is the chat's::

    Mo  9:01 AM                 ``_whole``: a line that only names; the message is below it, or above it
    hi (9:01 AM) Mo             ``_after``: the message, its time, and who wrote it
    >> hi                       ``_marked``: marks alone tell the speakers apart
    [9:01] Mo: hi               ``_before``: the speaker, a separator (":"), and the message
    9:01<tab>Mo<tab>hi          ``_before`` with the second separator: the first ends the time

Mail is read on its own (``_mail``), by its quoting and its fields such as From and Sent. A text without heads
is read into its paragraphs (``_blocks``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

_CLOCK = re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?(?: ?[ap]\.?m?\b\.?)?|\b\d{1,2}[ap]m?\b", re.IGNORECASE)
"""A time: "9:01", "14:02:33", "9:01 AM", "9a"."""
_FIELD = re.compile(r"\w{1,24}: ")
"""Of a mail's head: "From: "."""
_BEFORE_NAME = re.compile(r"\s(?=\w{1,24}:\s)")
_RULE = re.compile(r"^[^\w?]{4,}$")
"""A line of marks, "-----": it is read as an empty one."""
_LETTERS = re.compile(r"[^\W\d_]+")
_TIME_AFTER = re.compile(rf"(?:\t|\s\s|\s[(\[])(?:{_CLOCK.pattern})[)\]]?$", re.IGNORECASE)
"""A time at the end of a message: "hi (9:01)"."""
_MARK = re.compile(r"[^\w\s]")
_AFTER_NAMES = (
    r":\s [<>\u00bb\u2192\u2190]+ \| \t [\])]\s \s[-\u2013\u2014]\s \s[\u2022\u00b7]\s ,(?=\") \s{2,} \s"
)
"""Patterns, with a blank between, of what ends the part of a line that names its speaker. The last one, any
white space, is taken only where it explains nine lines of ten."""
_MARKS_AROUND = "()[]{}|:,-\u2013\u2014\u2022\u00b7 \t"
"""Around a time."""
_NTH = (1, 2, 3)
"""After which separator of a line the message begins: a number or time may stand before the name."""
_NAME_WORDS, _NAME_CHARACTERS = 5, 48
"""Longest part of a line that may name a speaker."""
_LEAST_LINES = 3
"""Lines with text, or paragraphs, of the shortest chat."""
_MOSTLY = 0.7
"""Where more than this share of the heads have a time, heads without one are text."""
_LEAST_SHARE = 0.3
"""Least share of the lines with text that a style must explain."""


@dataclass(frozen=True, slots=True)
class Pasted:
    """One message of a pasted chat."""

    name: str | None
    """The letters of what names its speaker, folded: "mo" of "[9:01] Mo:". None where the layout names
    nobody; in mail "" where no head names the writer."""
    text: str
    is_apart: bool = False
    """Whether it is the last paragraph, below an empty line: the agent may have added it."""


@dataclass(frozen=True, slots=True)
class _Head:
    """What names the speaker of a line, or of the lines below or above it.

    Example: of "* Mo - 9:01a" name "mo", marks {"*", "-"}, clock "0:0a", first "*", last "-".
    """

    name: str
    """Its words without the time, folded."""
    marks: frozenset[str]
    clock: str
    """The form of its time, a 0 for each number: "0:0 pm"; empty without one."""
    first: str
    """What it begins with: a mark; "A" for a capital letter, "a" for a small one."""
    last: str
    """The mark that it ends with; empty for a letter."""
    text: str
    """The rest of the line, which is the message or its beginning; empty in the style ``_whole``."""


_Turn = tuple[str | None, list[str]]
"""``Pasted.name``, and the message's lines, with an empty one where a paragraph ends."""
_Style = Callable[[str], _Head | None]
"""Returns the head of a stripped line with text, or None where it has none in this style."""


def pasted_turns(text: str) -> list[Pasted]:
    """Return the messages of a text that is laid out as a chat or as quoted mail, in its order; else its
    paragraphs, or the items of its list, where there are three at least; else nothing: it is no chat.

    Example: "Mo: hi\\nDesk: Hello, your birthday?\\nMo: 6/1/70" gives Pasted("mo", "hi"),
    Pasted("desk", "Hello, your birthday?"), Pasted("mo", "6/1/70").
    """
    lines = [_RULE.sub("", line) for line in text.strip("\n").split("\n")]
    if len(lines) < _LEAST_LINES:  # copied as one paragraph
        lines = _BEFORE_NAME.split(text.strip())
    filled = sum(bool(line.strip()) for line in lines)
    if filled < _LEAST_LINES:
        return []
    if _is_mail(lines):
        return _mail(lines)
    # a score is about the number of lines that a style explains; the small terms decide between equal ones
    best, best_score = None, max(2.0, _LEAST_SHARE * filled) - 0.1
    for at, style in enumerate(_STYLES):
        heads, score = _heads(lines, style)
        names = {head.name for head in heads if head and head.name}
        is_fallback = style is _marked or style in _STYLES[-len(_NTH) :]
        if not 2 <= len(names) <= max(3, score / 1.5) or (is_fallback and score < 0.9 * filled):
            continue
        score -= 0.01 * len(names) + 0.001 * at + 0.6 * is_fallback
        if score > best_score:
            best, best_score = (style is _whole, heads), score
    return _blocks(lines) if best is None else _turns(lines, best[1], is_own_line=best[0])


def _head(name: str, text: str = "", *, most_words: int = _NAME_WORDS) -> _Head | None:
    """Return the head of the part of a line that may name a speaker; None where it is too long for that.
    Without ``text``, the rest of the line, it may be 16 characters longer: a whole line has a date at
    times."""
    bare = _CLOCK.sub(" ", name).strip()
    words = _LETTERS.findall(bare)
    if len(words) > most_words or len(name) > _NAME_CHARACTERS + 16 * (not text):
        return None
    clock = _CLOCK.search(name)
    form = re.sub(r"\d+", "0", clock[0].casefold()) if clock else ""
    first = words[0][:1] if words and not _MARK.match(bare) else bare[:1]
    first = "A" if first.isupper() else "a" if first.isalpha() else first
    last = bare[-1:] if _MARK.match(bare[-1:]) else ""
    return _Head(" ".join(words).casefold(), frozenset(_MARK.findall(bare)), form, first, last, text)


_whole = partial(_head, most_words=_NAME_WORDS + 1)
"""Style: a line that only names who speaks, "Mo  9:01 AM"."""


def _after(line: str) -> _Head | None:
    """Style: a message, its time, and who wrote it, "hi (9:01 AM) Mo" or "hi (Mo, 9:01)"."""
    clocks = list(_CLOCK.finditer(line))
    # the head begins at the bracket that the line ends with, if the time is in it, else at the last time
    start = max(line.rfind("("), line.rfind("[")) if line[-1:] in ")]" else -1
    if clocks and not 0 < start < clocks[-1].start():
        start = clocks[-1].start()
    text = line[:start].rstrip(_MARKS_AROUND) if clocks and start > 0 else ""
    head = _head(line[start:], text, most_words=3) if text else None
    return head if head is not None and head.name else None


def _marked(line: str) -> _Head | None:
    """Style: marks alone that tell who speaks, such as << and >>."""
    marked = re.match(r"([^\w\s]{1,3})\s+(?=\S)", line)
    return _Head(marked[1], frozenset(marked[1]), "", marked[1], "", line[marked.end() :]) if marked else None


def _before(line: str, *, end: re.Pattern[str], nth: int) -> _Head | None:
    """Style: who speaks, up to the ``nth`` separator ``end``, and the message: "[9:01] Mo: hi". A separator
    inside a time does not count. A time at the beginning or end of the message is left out."""
    hidden = _CLOCK.sub(lambda clock: "0" * len(clock[0]), line)  # of the same length, without ":"
    ends = list(end.finditer(hidden))
    if len(ends) < nth:
        return None
    text = line[ends[nth - 1].end() :].strip()
    if text[:1] == text[-1:] == '"':
        text = text[1:-1]
    # a time at the beginning goes, with marks and blanks after it: "9:01 | hi"; it stays without any: "9:01?"
    if (clock := _CLOCK.search(text)) and not _LETTERS.search(text[: clock.start()]):
        rest = text[clock.end() :].lstrip(_MARKS_AROUND)
        text = rest if rest != text[clock.end() :] else text
    text = _TIME_AFTER.sub("", text)
    head = _head(line[: ends[nth - 1].start()], text) if text else None
    return head if head is not None and head.name else None


_STYLES: tuple[_Style, ...] = (
    _whole,
    _after,
    _marked,
    *(partial(_before, end=re.compile(end), nth=nth) for end in _AFTER_NAMES.split(" ") for nth in _NTH),
)


def _heads(lines: Sequence[str], style: _Style) -> tuple[list[_Head | None], float]:
    """Return the head of each line in one style, None for the others, and about how many lines they explain.

    Names that come again are sure. A name that comes once is a head where its form is that of sure ones: its
    time and first character, or its marks. The score is less half a line for each of these.
    """
    possible = [style(line.strip()) if line.strip() else None for line in lines]
    counts = Counter(head.name for head in possible if head and (head.name or head.clock))
    sure = [head for head in possible if head and head.name and counts[head.name] > 1]
    timed = [head for head in sure if head.clock]
    with_clock = len(timed) > _MOSTLY * len(sure)
    sure = timed if with_clock else sure
    if not sure:
        return [], 0.0
    shared = frozenset[str].intersection(*(head.marks for head in sure))
    firsts, lasts = {head.first for head in sure}, {head.last for head in sure}
    clocks = {head.clock for head in sure}

    def has_form(head: _Head) -> bool:
        if not head.name:  # a time alone above each message
            return style is _whole and bool(head.clock) and counts[""] > 2
        if with_clock:
            return head.clock in clocks and head.first in firsts
        if counts[head.name] > 1 or style is not _whole:
            return counts[head.name] > 1 or head.first in firsts
        return (bool(shared) and shared <= head.marks) or (head.last != "" and head.last in lasts)

    heads = [head if head and has_form(head) else None for head in possible]
    once = sum(counts[head.name] == 1 for head in heads if head)
    # heads in a row of lines count as one; each explains its own line and one of its message
    begun = sum(head is not None and before is None for before, head in pairwise([None, *heads]))
    explained = 2 * begun if style is _whole else sum(head is not None for head in heads)
    return heads, explained - 0.5 * once


def _turns(lines: Sequence[str], heads: Sequence[_Head | None], *, is_own_line: bool) -> list[Pasted]:
    """Return the messages.

    Lines before the first head are a message without a name. So are those below an empty line after the last
    head, unless ``is_own_line``: each head is a line of its own (style ``_whole``), so that they may belong
    to its message. Where heads stand below their messages ("hi", then "Mo · 9:01"), the lines are read
    backwards.
    """
    filled = [at for at, line in enumerate(lines) if line.strip()]
    is_below = is_own_line and heads[filled[0]] is None and heads[filled[-1]] is not None
    last = max(at for at in filled if heads[at] is not None)
    turns: list[_Turn] = []
    is_open = False  # whether the line before in this order is a head: two in a row name one speaker
    for at in reversed(filled) if is_below else filled:
        head, line = heads[at], lines[at].strip()
        if head is None:
            is_apart = at > 0 and not lines[at - 1].strip()
            is_note = is_apart and at > last and not is_own_line and not lines[at].startswith((" ", "\t"))
            if not turns or is_note:
                turns.append((None, []))
            turns[-1][1].extend(["", line] if is_apart or (at > last and not is_own_line) else [line])
        elif is_own_line and is_open:
            turns[-1] = (f"{turns[-1][0]} {head.name}".strip(), [])
        else:
            turns.append((head.name, [head.text] if head.text else []))
        is_open = head is not None
    if is_below:
        turns = [(name, texts[::-1]) for name, texts in reversed(turns)]
    return _pasted(turns)


def _pasted(turns: Sequence[_Turn]) -> list[Pasted]:
    """Return the messages. The last paragraph of the last one becomes a message of its own, which is apart:
    the agent may have added it."""
    *_, (name, last_lines) = turns
    parts = "\n".join(last_lines).strip().rpartition("\n\n")
    texts = [(name, "\n".join(filter(None, lines))) for name, lines in turns[:-1]]
    texts += [(name, "\n".join(filter(None, part.split("\n")))) for part in (parts[0], parts[2])]
    pasted = [Pasted(name, text) for name, text in texts if text]
    return [*pasted[:-1], *(replace(last, is_apart=bool(parts[0]) or name is None) for last in pasted[-1:])]


def _blocks(lines: Sequence[str]) -> list[Pasted]:
    """Return the paragraphs of a text, or the items of its list ("- …"), as messages without a name; nothing
    where there are fewer than three."""
    starts = Counter(line.strip()[:2] for line in lines)
    bullets = [start for start, n in starts.items() if n > 2 and start[1:] == " " and _MARK.match(start)]
    bullet = (*bullets, "")[0]
    blocks: list[list[str]] = [[]]
    for line in map(str.strip, lines):
        if not line or (bullet and line.startswith(bullet)):
            blocks.append([])
        blocks[-1].append(line.removeprefix(bullet).strip())
    texts = [text for block in blocks if (text := "\n".join(filter(None, block)))]
    messages = [Pasted(None, text, at == len(texts)) for at, text in enumerate(texts, start=1)]
    return messages if len(messages) >= _LEAST_LINES else []


def _is_mail(lines: Sequence[str]) -> bool:
    """Return whether lines are quoted ("> …") and there is a head ("On 3 May at 9:01 Mo wrote:"), or whether
    two neighbouring fields, such as From and Sent, of which one has a time, come in pairs alone: twice or
    more, or once where lines are quoted."""
    bare = [line.lstrip("> ") for line in lines]
    fields = [field[0] if (field := _FIELD.match(line)) else "" for line in bare]
    timed = [_CLOCK.search(line) is not None for line in bare]
    is_quoted = any(line.startswith(">") for line in lines)
    heads = (line.endswith(":") and timed[at] for at, line in enumerate(bare))
    pairs = (
        (first, second, timed[at] != timed[at + 1]) for at, (first, second) in enumerate(pairwise(fields))
    )
    return (is_quoted and any(heads)) or any(
        n == fields.count(first) == fields.count(second) and (n > 1 or is_quoted)
        for (first, second, is_timed), n in Counter(pairs).items()
        if first and second and is_timed
    )


def _mail(lines: Sequence[str]) -> list[Pasted]:
    """Return the messages of mail: a change of the quoting's depth or a head of a message begins another.

    A line is of a head where it is a field with another one beside it, or ends in ":" and has a time. The
    name is that of the first such line which is no time alone: the value of the field, or the line's words.
    """
    bare = [line.lstrip("> \t").strip() for line in lines]
    depths = [line[: len(line) - len(line.lstrip("> "))].count(">") for line in lines]
    fields = [_FIELD.match(line) is not None for line in bare]
    # whether a neighbour of the line is a field
    near = [any(fields[max(0, at - 1) : at] + fields[at + 1 : at + 2]) for at in range(len(lines))]
    turns: list[_Turn] = [("", [])]
    depth = depths[0]
    for at, line in enumerate(bare):
        is_head = (fields[at] and near[at]) or (line.endswith(":") and _CLOCK.search(line) is not None)
        if any(turns[-1][1]) and (is_head or (line and depths[at] != depth)):
            turns.append(("", []))
        depth = depths[at] if line else depth  # an empty line has the depth of the one before
        if is_head and not turns[-1][0] and (not fields[at] or not _CLOCK.search(line)):
            name = line.partition(": ")[2] if fields[at] else line
            turns[-1] = (" ".join(_LETTERS.findall(_CLOCK.sub(" ", name))).casefold(), [])
        elif not is_head:
            turns[-1][1].append(line)
    return _pasted(turns)
