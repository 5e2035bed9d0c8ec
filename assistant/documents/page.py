"""The page model: what a person sees on a page, whatever its format. Only converters make pages.

A page has blocks, and blocks have runs of text:

    Page((Heading(1, plain("Fees")), Paragraph((Run("20"), Run("1", Shift.RAISED), Run("25",
    is_struck=True)))))

What is not in force (struck, hidden, older mail) is kept and marked: ``parsing.render`` leaves it out and
counts it. ``Page.to_bytes`` is the JSON in which a page leaves the parsing process and is kept in the
document store: names of fields are keys of stored pages.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from string import ascii_lowercase
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, WrapSerializer
from pydantic_core import PydanticSerializationError

from assistant.domain.errors import DocumentInvalidError

_OMIT = Field(exclude_if=lambda value: not value)
"""A field that is left out of the JSON while it is empty."""
_OmittedIfNone = Annotated["Place | None", _OMIT]
_OmittedIfFalse = Annotated[bool, _OMIT]
_OmittedIfEmpty = Annotated[str, _OMIT]
_Span = Annotated[int, Field(ge=1, exclude_if=lambda value: value == 1)]


class Shift(StrEnum):
    """Height of a run on its line: an exponent and the mark of a note are raised, the 2 of H2O is lowered."""

    NONE = ""
    RAISED = "raised"
    LOWERED = "lowered"


@dataclass(frozen=True, slots=True)
class Run:
    """Text with the same marks throughout. A line break that a reader sees is "\\n" in it."""

    text: str
    shift: Annotated[Shift, _OMIT] = Shift.NONE
    is_struck: _OmittedIfFalse = False
    is_hidden: _OmittedIfFalse = False
    """Not shown by the program of the format: hidden text of Word, ``hidden`` of HTML."""
    link: _OmittedIfEmpty = ""
    """The address that it leads to, as written. "#…" leads to a place of the same page."""
    is_note_mark: _OmittedIfFalse = False
    """Whether the format says that this is the mark of a note."""

    @property
    def is_in_force(self) -> bool:
        return not self.is_struck and not self.is_hidden

    def inside(self, outer: Run) -> Run:
        """Return the run with the marks of the element ``outer`` around it; its own shift and link take
        precedence."""
        is_struck, is_hidden = self.is_struck or outer.is_struck, self.is_hidden or outer.is_hidden
        shift, link = self.shift or outer.shift, self.link or outer.link
        return Run(self.text, shift, is_struck, is_hidden, link, self.is_note_mark)


def _short_runs(runs: tuple[Run, ...], write: Callable[[tuple[Run, ...]], Any]) -> Any:
    """Return the JSON of runs: a text instead of one plain run, as most are: "Fees", not [{"text":
    "Fees"}]."""
    return runs[0].text if len(runs) == 1 and runs[0] == Run(runs[0].text) else write(runs)


Runs = Annotated[
    tuple[Run, ...],
    BeforeValidator(lambda value: (Run(value),) if isinstance(value, str) else value),
    WrapSerializer(_short_runs),
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the original: page 3, slide 2, line 14, a sheet with its row. "part": a named part of a
    file."""

    kind: Literal["page", "slide", "sheet", "line", "part"]
    number: Annotated[int, _OMIT] = 0
    """Number from 1 of the page, slide or line; of the row in a sheet; 0: none."""
    name: _OmittedIfEmpty = ""
    """Name of a sheet or part."""

    def __str__(self) -> str:
        """Return it in words: "page 3", "sheet Prices, row 12"."""
        if self.kind == "sheet":
            return f"sheet {self.name}" + (f", row {self.number}" if self.number else "")
        return " ".join(filter(None, (self.kind, self.name, str(self.number) if self.number else "")))


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    """1 to 6; 1 is the highest."""
    runs: Runs
    place: _OmittedIfNone = None
    block: Literal["heading"] = "heading"


@dataclass(frozen=True, slots=True)
class Paragraph:
    runs: Runs
    place: _OmittedIfNone = None
    is_plain: _OmittedIfFalse = False
    """Whether it is plain text, whose lines may be list items or headings."""
    block: Literal["paragraph"] = "paragraph"


def _short_blocks(blocks: tuple[Block, ...], write: Callable[[tuple[Block, ...]], Any]) -> Any:
    """Return the JSON of blocks: a text instead of one plain paragraph, as most cells are."""
    first = blocks[0] if len(blocks) == 1 else None
    if isinstance(first, Paragraph) and first == Paragraph((Run(text_of(first.runs)),)):
        return first.runs[0].text
    return write(blocks)


_Blocks = Annotated[
    tuple["Block", ...],
    BeforeValidator(lambda value: (Paragraph((Run(value),)),) if isinstance(value, str) else value),
    WrapSerializer(_short_blocks),
]


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a list. Its blocks may be lists and tables too."""

    marker: str
    """Marker as shown: "4.", "b)", "•", or the term of a definition: "Fee:"; empty without one."""
    blocks: _Blocks


@dataclass(frozen=True, slots=True)
class List:
    items: tuple[Item, ...]
    is_ordered: _OmittedIfFalse = False
    """Whether its items are steps, which have an order."""
    place: _OmittedIfNone = None
    block: Literal["list"] = "list"


@dataclass(frozen=True, slots=True)
class Cell:
    blocks: _Blocks
    rows: _Span = 1
    """Rows that it spans, itself included; so for ``columns``."""
    columns: _Span = 1
    is_name: _OmittedIfFalse = False
    """Whether it is shown as a name: in bold letters, or as a ``th``. In a table that was read
    (``documents.tables``): whether it is across all columns, and a title of the rows below it."""


@dataclass(frozen=True, slots=True)
class Table:
    """A grid. As in HTML, a row has only the cells that begin in it."""

    rows: tuple[tuple[Cell, ...], ...]
    header_rows: Annotated[int, _OMIT] = 0
    """First rows that name the columns."""
    doubtful: Annotated[tuple[int, ...], _OMIT] = ()
    """Columns, from 0, whose empty cells may mean "as above"."""
    place: _OmittedIfNone = None
    block: Literal["table"] = "table"


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture, chart or drawing, with the words that stand for it."""

    caption: Runs
    kind: Annotated[str, Field(exclude_if=lambda kind: kind == "picture")] = "picture"
    place: _OmittedIfNone = None
    block: Literal["figure"] = "figure"


@dataclass(frozen=True, slots=True)
class Note:
    """A footnote, endnote, comment, or a speaker's note."""

    mark: str
    """Mark as shown in the text, such as "1" or "*"; empty without one."""
    blocks: tuple[Block, ...]
    place: _OmittedIfNone = None
    block: Literal["note"] = "note"


@dataclass(frozen=True, slots=True)
class OlderText:
    """An older mail that a newer one quotes. It is not in force."""

    blocks: tuple[Block, ...]
    place: _OmittedIfNone = None
    block: Literal["older"] = "older"


Block = Annotated[
    Heading | Paragraph | List | Table | Figure | Note | OlderText,
    Field(discriminator="block"),
]


_PLURAL = re.compile(r"s\b")
"""The first one is that of the thing itself: "words of comments"."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Something of the original that is not in the text, for its owner."""

    what: str
    """What is lost, in the plural where it is counted: "struck words", "hidden rows"; or a sentence on it:
    "its macros were not read"."""
    where: _OmittedIfEmpty = ""
    """``str(Place)``, or several of them; empty: in all of the file."""
    words: Annotated[int, _OMIT] = 0
    """How many words are lost; 0 if they cannot be counted, as those of a picture."""
    count: Annotated[int, _OMIT] = 0
    """How many things are lost, where ``what`` names no words."""
    at: Annotated[int | None, Field(exclude_if=lambda at: at is None)] = None
    """Where its place begins in the text; None: the place has no text."""

    def __str__(self) -> str:
        """Return it as a line of a report: "struck words (page 3): 4"."""
        where, lost = f" ({self.where})" if self.where else "", self.count or self.words
        return f"{self.what}{where}" + (f": {lost:,}" if lost else "")

    @property
    def sentence(self) -> str:
        """Return it for the document's owner: "4 struck words were left out: page 3."."""
        where, lost = f": {self.where}" if self.where else "", self.count or self.words
        if self.what.endswith(("not read", ".")):
            return f"{self.what[0].upper()}{self.what[1:].rstrip('.')}."
        if lost == 1:
            return f"1 {_PLURAL.sub('', self.what, count=1)} was left out{where}."
        counted = f"{lost:,} {self.what}" if lost else self.what[0].upper() + self.what[1:]
        return f"{counted} were left out{where}."


OLDER_WORDS = "older quoted words"
BESIDE_WORDS = "words of menus and footers"
BESIDE_CONTENT = frozenset([OLDER_WORDS, BESIDE_WORDS])
"""Losses (``Loss.what``) that nobody misses in a document: its share of lost words leaves them out."""


@dataclass(frozen=True, slots=True)
class Page:
    """A whole file: a document of many pages is one of these."""

    blocks: tuple[Block, ...]
    title: Annotated[str | None, _OMIT] = None
    """What the file calls itself; None if it does not say."""
    banner: _OmittedIfEmpty = ""
    """Text of running headers, footers and watermarks, such as "SUPERSEDED". It becomes the document's first
    line, and is shown beside each quote of the document."""
    losses: Annotated[tuple[Loss, ...], _OMIT] = ()
    """What the converter could not read or left out. ``render`` adds the words that are not in force."""
    schema_version: Literal[1] = 1

    def to_bytes(self) -> bytes:
        """Return the page as JSON, without empty fields. Raises DocumentInvalidError for blocks that are
        nested too deep for JSON."""
        try:
            return _PAGE.dump_json(self)
        except PydanticSerializationError:
            raise DocumentInvalidError("its lists and tables are nested too deep. Simplify it.") from None

    @classmethod
    def from_bytes(cls, content: bytes | str) -> Page:
        """Return the page that ``to_bytes`` wrote. Raises DocumentInvalidError for any other JSON."""
        try:
            return _PAGE.validate_json(content)
        except ValidationError as error:
            problem = f"it is no page of this release ({error.error_count()} faults)"
            raise DocumentInvalidError(f"{problem}. Load its original again.") from None


_PAGE: TypeAdapter[Page] = TypeAdapter(Page)


# What converters of all formats share


def text_of(runs: Iterable[Run]) -> str:
    """Return all text of the runs, struck and hidden text included."""
    return "".join(run.text for run in runs)


def plain(text: str) -> Runs:
    """Return a text as one run without marks; no run for an empty text."""
    return (Run(text),) if text else ()


def all_runs(blocks: Iterable[Block]) -> Iterator[Runs]:
    """Yield the runs of each heading, paragraph and caption, also of those inside lists, tables and notes."""
    for block in blocks:
        match block:
            case Heading() | Paragraph():
                yield block.runs
            case List():
                yield from all_runs(inner for item in block.items for inner in item.blocks)
            case Table():
                yield from all_runs(inner for row in block.rows for cell in row for inner in cell.blocks)
            case Figure():
                yield block.caption
            case _:
                yield from all_runs(block.blocks)


def trimmed(runs: Iterable[Run]) -> Runs:
    """Return the runs without white space at both ends; neighbours with the same marks are joined, empty runs
    left out."""
    joined: list[Run] = []
    for run in runs:
        if joined and replace(joined[-1], text="") == replace(run, text=""):
            joined[-1] = replace(run, text=joined[-1].text + run.text)
        elif run.text:
            joined.append(run)
    while joined and not joined[0].text.strip():
        del joined[0]
    while joined and not joined[-1].text.strip():
        del joined[-1]
    if joined:
        joined[0] = replace(joined[0], text=joined[0].text.lstrip())
        joined[-1] = replace(joined[-1], text=joined[-1].text.rstrip())
    return tuple(joined)


def are_telling(rows: Iterable[Mapping[int, object]]) -> bool:
    """Return whether the colors of a table's cells may say something: one differs from others of its row, so
    that it is no stripe or title, and of its column, without the name of that. ``rows``: the color in each
    column that has one or a text, or nothing."""
    by_column = defaultdict[int, list[tuple[object, bool]]](list)
    for row in rows:
        for column, color in row.items():
            by_column[column].append((color or None, bool(color) and len(set(row.values())) > 1))
    values = ([*zip(*cells[1:], strict=True)] for cells in by_column.values() if cells[1:])
    return any(len({*colors}) > 1 and any(differ) for colors, differ in values)


SENTENCE_ENDS = (".", "!", "?")
LONGEST_BANNER = 300
"""Characters of a banner, which each quote repeats."""
_LONGEST_TITLE = 300
"""Characters of a title that a converter took from the text."""


def first_of(names: Sequence[str], *, most: int) -> str:
    """Return the first names, and how many more there are: "a.md, b.md and 12 more"."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def one_line(text: str) -> str:
    """Return the text without line breaks and repeated spaces."""
    return " ".join(text.split())


def title_of(text: str | None) -> str | None:
    """Return a text as a title: one line, shortened; None for an empty one."""
    line = one_line(text or "")
    return f"{line[: _LONGEST_TITLE - 1]}…" if len(line) > _LONGEST_TITLE else line or None


def banner_of(lines: Iterable[str]) -> tuple[str, list[str]]:
    """Return the lines of headers, footers and watermarks in one line ("SUPERSEDED; Draft 2"), and the lines
    that did not fit into its LONGEST_BANNER characters."""
    taken, left_over, length = list[str](), list[str](), 0
    for line in lines:
        length += len(line)
        (taken if length <= LONGEST_BANNER else left_over).append(line)
    return "; ".join(taken), left_over


_ROMAN_VALUES = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
_ROMAN_SIGNS = ("m", "cm", "d", "cd", "c", "xc", "l", "xl", "x", "ix", "v", "iv", "i")


def counted(number: int, kind: str) -> str:
    """Return a number as a list shows it. ``kind`` is HTML's type: 4 is "4" (kind "1"), "d" ("a"), "IV"
    ("I")."""
    text = ""
    if kind in ("a", "A") and number > 0:
        while number > 0:
            number, letter = divmod(number - 1, 26)
            text = ascii_lowercase[letter] + text
    elif kind in ("i", "I") and 0 < number < 4000:
        text = _roman(number)
    return (text.upper() if kind.isupper() else text) or str(number)


def _roman(number: int) -> str:
    text = ""
    for value, sign in zip(_ROMAN_VALUES, _ROMAN_SIGNS, strict=True):
        times, number = divmod(number, value)
        text += sign * times
    return text


# Formulas on one line: "(140 - age)/72", "x^2"

# Tags of both formats: "mfrac" is MathML's, "m_f" is m:f of Office files, whose reader writes the prefix so

_LEAVES = frozenset(["mi", "mn", "mo", "mtext", "m_r"])
_OPERAND = re.compile(r"[\u2212-]?[\d.,]*|[^\W\d]+|\([^()]*\)")
"""An operand that needs no parentheses: "-2.5", "age", or "(a + b)", which has some."""


_OPERATIONS = {
    **dict.fromkeys(("mfrac", "m_f"), "{}/{}"),
    **dict.fromkeys(("msup", "mover", "m_sSup", "m_limUpp"), "{}^{}"),
    **dict.fromkeys(("msub", "munder", "m_sSub", "m_limLow"), "{}_{}"),
    **dict.fromkeys(("msubsup", "munderover", "m_sSubSup"), "{}_{}^{}"),
    "mroot": "{}^(1/{})",
}
_SEPARATORS = {**dict.fromkeys(("mtable", "m_m", "m_eqArr"), "; "), **dict.fromkeys(("mtr", "m_mr"), ", ")}


def linear(tag: str, parts: Sequence[str], inner: Sequence[str] = ()) -> str:
    """Return an element of a formula in MathML or Office's markup as a line.

    ``parts`` are the lines of its children, ``inner`` their tags: ("mfrac", ["140 - age", "72"]) is
    "(140 - age)/72". The caller goes from the leaves up.
    """
    operation = _OPERATIONS.get(tag, "")
    if operation and operation.count("{}") == len(parts):
        operands = (part if _OPERAND.fullmatch(part) else f"({part})" for part in map(str.strip, parts))
        return operation.format(*operands)
    if tag == "msqrt":
        return f"\u221a({''.join(parts)})"
    if tag in _SEPARATORS:
        return _SEPARATORS[tag].join(parts)
    return _joined(parts, inner)


def _joined(parts: Sequence[str], tags: Sequence[str]) -> str:
    """Return the parts in one line. Words and numbers get a space between them, unless both are leaves: in
    MathML a leaf is one token, and "2" and "x" are "2x"."""
    line, last_tag = "", ""
    for part, tag in zip(parts, tags, strict=False):
        is_apart = not {tag, last_tag} <= _LEAVES and line[-1:].isalnum() and part[:1].isalnum()
        line += f" {part}" if is_apart else part
        last_tag = tag
    return line
