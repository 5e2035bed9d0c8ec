"""Builds a document's plain text, block by block, with its sections and units.

``render`` calls ``TextBuilder``. Texts that it passes may have links in them: the words of a link are between
``link_begin(address)`` and ``LINK_END``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import zip_longest
from urllib.parse import unquote

from assistant.documents.aligned import ITEM
from assistant.domain.documents import Link, ParsedDocument, Section, Span, Table, Unit, UnitKind
from assistant.text.language import split_sentences
from assistant.text.marks import LINK_BEGIN, LINK_END, LINK_WORDS

_SPACES = re.compile(r"[^\S\n]+")
_AROUND_NEWLINE = re.compile(r" ?\n ?")
_BLANK_LINES = re.compile(r"\n{3,}")
_LONGEST_TITLE_WORDS = 10
"""A line of plain text with at most this many words and no full stop is a heading, or an item under a line
that ends in ":"."""
_LONGEST_ITEM_WORDS = 30
"""Words of an item that is one unit; a longer one is divided into sentences."""
_LONGEST_NAME = 2_000
"""Characters of a heading or a column's name: each unit below it repeats it, so a longer one is text. The
longest of the 506 headings in ``knowledge`` has 77."""
_CLAUSE_ENDS = (".", "!", "?", ";", ",", '"', "\u201d")
_LINK_MARK = re.compile(f"{LINK_BEGIN}[^{LINK_WORDS}]*{LINK_WORDS}|{LINK_END}")
"""A mark before the words of a link, with the address in it, or one after them."""
_LINK = re.compile(f"{LINK_BEGIN}([^{LINK_WORDS}]*){LINK_WORDS}([^{LINK_BEGIN}{LINK_END}]*){LINK_END}")
"""A link: group 1 is the address, group 2 the words."""
_SCHEME = re.compile(r"(?:https?://(?:www\.)?|mailto:|tel:)", re.I)
"""The begin of an address that is of use outside of the documents."""
_FILE = re.compile(
    r"(?<![^/])[^/?#]+\.(?!(?:html?|mdx?|markdown|erb|php|aspx?|jsp)\b)[a-z]\w{1,4}(?=\Z|[?#])", re.I
)
"""The name of a file that is no page, at the end of an address within the documents."""
_NO_DIGITS = re.compile(r"\D+")
_LOCAL_DIGITS = 7
"""Last digits of a telephone number that are compared: people leave out prefixes."""


def normalize(text: str) -> str:
    """Return the text with single spaces, at most one blank line at a time, and no control characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.replace("\n", "").isprintable():
        text = "".join(map(_shown, text))
    text = _AROUND_NEWLINE.sub("\n", _SPACES.sub(" ", text))
    return _BLANK_LINES.sub("\n\n", text).strip()


def _shown(char: str) -> str:
    """Return a character as a reader sees it: a control or a noncharacter is a space, a soft hyphen or a
    joiner nothing."""
    is_shown = char.isprintable() or char == "\n"
    return char if is_shown else "" if unicodedata.category(char) == "Cf" else " "


def link_begin(address: str) -> str:
    """Return the mark before the words of a link to this address."""
    return f"{LINK_BEGIN}{''.join(normalize(address).split())}{LINK_WORDS}"


def unmarked(marked: str) -> str:
    """Return a text without the marks of links."""
    return _LINK_MARK.sub("", marked) if LINK_END in marked else marked


def shown_address(link: str, words: str) -> str:
    """Return what is shown behind the words of a link: its address where they do not say it, "
    (https://forms.example)". Of an address within the documents the name of a file that is no page, "
    (LP-3.pdf)"."""
    scheme = _SCHEME.match(link)
    if scheme is None:
        name = "" if ":" in link or not (file := _FILE.search(link)) else unquote(file[0])
        return f" ({name})" if name and words.strip() and name.casefold() not in words.casefold() else ""
    is_on_web = scheme[0].lower().startswith("http")
    address = link if is_on_web else link[scheme.end() :].partition("?")[0]
    said, told = ("".join(_SCHEME.sub("", text).split()).casefold().rstrip("/") for text in (words, address))
    if scheme[0].lower() == "tel:":
        said, told = _NO_DIGITS.sub("", said)[-_LOCAL_DIGITS:], _NO_DIGITS.sub("", told)[-_LOCAL_DIGITS:]
    return "" if not words.strip() or told in said else f" ({address})"


def read_links(marked: str, *, is_name: bool = False) -> tuple[str, list[Link]]:
    """Return the normalized text without the marks of links, and each link as (start, end, address) in that
    text. Addresses on the web, of mail and of telephones are part of it, but not in a name (``is_name``).

    A link without words is left out. The words are searched from the end of the link before, because
    normalizing moves them.
    """
    if LINK_END not in marked:
        return normalize(marked), []
    marked = marked if is_name else _LINK.sub(lambda link: link[0] + shown_address(link[1], link[2]), marked)
    text, links = normalize(unmarked(marked)), list[Link]()
    marked_at = text_at = 0  # ends of the previous link in each text
    for link in _LINK.finditer(marked):
        between, words = normalize(unmarked(marked[marked_at : link.start()])), normalize(link[2])
        start = text.find(words, text_at + len(between))  # only white space is skipped
        marked_at, text_at = link.end(), start + len(words)
        if words:
            links.append((start, text_at, link[1]))
    return text, links


class TextBuilder:
    """Takes headings and blocks in reading order, and builds a ParsedDocument. A section runs from heading to
    heading.

        builder = TextBuilder()
        builder.heading(1, "Fees")
        builder.block("A visit is $20.")
        parsed = builder.build()

    The text is "Fees\\n\\nA visit is $20."; the section and the only unit (a sentence) are its last 15
    characters.

    What each call does to the state between texts. An empty text changes at most ``_last_was_line``; without
    a sentence ``_lead`` stays:

    | call             | section | _last_was_line | _subheading | _lead              | _items            |
    | heading          | ends    | False          | ""          | None               | none              |
    | block            | goes on | False          | stays       | last sentence      | none              |
    | plain_block      | goes on | False          | stays       | last sentence      | none              |
    | of a title alone | goes on | False          | the title   | None               | none              |
    | item_or_row      | goes on | True           | stays       | stays              | outer and new one |
    | gap, table       | goes on | False          | stays       | None               | stay              |
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        """Pieces of the text so far, with the separators between them."""
        self.length = 0
        """Characters of the text so far: where the next piece begins."""
        self._headings: list[tuple[int, str]] = []
        """Level and name of each heading above the next block, outermost first."""
        self._sections: list[Section] = []
        self._units: list[Unit] = []
        self._tables: list[Table] = []
        self._pages: list[tuple[int, int]] = []
        """Number of each page, and where it begins in the text."""
        self._links: list[Link] = []
        self._section_start: int | None = None
        """Where the section begins, which goes on to the end of the text so far; None until a text follows
        its heading."""
        self._last_was_line = False
        """Whether the last text was a list item or a row, so that the next one continues its list or
        table."""
        self._subheading = ""
        """The last line of plain text that serves as a heading: units after it get its name, but no section
        begins. Only a heading ends it, or the next such line."""
        self._lead: int | None = None
        """Ordinal of the last sentence of a block, "Bring with you:": the parent of the items of depth 1 that
        follow. None after a heading, a list or a table."""
        self._items: list[int | None] = []
        """Ordinal of the newest item at each depth of lists, outermost first; None at a depth without an
        item. Example: [4, 6] in the list below, after "Wool"::

            4  - Coat
            5    - Cotton
            6    - Wool

        The next item of depth 2 has the parent 4 and makes it [4, 7], one of depth 1 makes it [7]. Headings
        and blocks empty it. After a list or table alone, the first item of the next one, if its depth is 2,
        belongs to an item of the one before."""

    def heading(self, level: int, text: str) -> None:
        """Add a heading. It ends the headings of its own and of deeper levels, and is part of the text but of
        no section. A text longer than _LONGEST_NAME is added as a paragraph, which ends no heading and no
        ``_subheading``."""
        shown, links = read_links(text, is_name=True)
        name = shown.replace("\n", " ")
        if not name:
            return
        if len(name) > _LONGEST_NAME:
            self.block(text.replace("\n", " "))
            return
        self._end_section()
        self._headings = [*(outer for outer in self._headings if outer[0] < level), (level, name)]
        self._append(name, "\n\n", links)
        self._last_was_line = False
        self._subheading = ""
        self._lead = None
        self._items.clear()

    def block(self, text: str) -> None:
        """Add a paragraph between blank lines. Its sentences are units."""
        text, links = read_links(text)
        start = self._append_to_section(text, "\n\n", links)
        if start is not None:
            self._items.clear()
            self._sentences(text, start)
        self._last_was_line = False

    def plain_block(self, text: str) -> None:
        """Add a paragraph of plain text, whose lines may be list items or headings."""
        text = normalize(text)
        start = self._append_to_section(text, "\n\n")
        if start is None:
            return
        self._items.clear()
        for line in re.finditer(r"[^\n]+", text):
            self._plain_line(line[0], start + line.start(), alone=line[0] == text)
        self._last_was_line = False

    def page(self, number: int) -> None:
        """Begin a page of a paged file: the next text is the first on it (2: the blank line before that)."""
        self._pages.append((number, self.length + (2 if self._parts else 0)))

    def table(
        self, names: Sequence[str], rows: Sequence[Sequence[str]], titles: Sequence[str], *, depth: int
    ) -> None:
        """Add a table, a line for each row: "Visit: First; Fee: $20", or "First | $20" without names of
        columns. Names of which one is longer than _LONGEST_NAME are a row.

        A row of one text across several columns is a title or a note. ``titles``: of each row the titles
        above it, which its line begins with, "By mail > Visit: First; Fee: $20"; "" for none, and for a title
        itself. ``depth``: see ``item_or_row``.
        """
        read = [
            [read_links(" ".join(cell.split()), is_name=at == 0) for cell in row]
            for at, row in enumerate((names, *rows))
        ]
        shown_names = [name for name, _ in read[0]]
        is_named = any(shown_names) and all(len(name) <= _LONGEST_NAME for name in shown_names)
        shown_names = shown_names if is_named else []
        cell_spans: list[tuple[Span, ...]] = []
        for row, title in zip(read[is_named:], ("", *titles)[is_named:], strict=True):
            is_across = len(row) == 1 < len(shown_names)  # one cell across all columns
            path = normalize(title) if len(title) <= _LONGEST_NAME else ""
            text, cells = row_line([cell for cell, _ in row], [] if is_across else shown_names, path)
            start = self.item_or_row(text, kind=UnitKind.ROW, depth=depth)
            if start is not None:
                cell_spans.append(tuple(Span(start + cell.start, start + cell.end) for cell in cells))
                for cell, (_, links) in zip(cell_spans[-1], row, strict=True):
                    self._links += _moved_by(links, cell.start)
        self.gap()
        if cell_spans:
            self._tables.append(Table(tuple(shown_names), tuple(cell_spans)))

    def item_or_row(self, text: str, *, kind: UnitKind, depth: int) -> int | None:
        """Add a list item, a part of one, or a table row, on the line after the one before.

        Return where it begins in the text; None for an empty line, which is not added.

        ``depth`` is the number of lists and tables around it, from 1. Its parent is the nearest item of a
        smaller depth; without one, the sentence before the list or table.
        """
        text, links = read_links(text)
        start = self._append_to_section(text, "\n" if self._last_was_line else "\n\n", links)
        if start is None:
            return None
        # One entry for each depth around: [4, 6] is [] for depth 1, [4] for 2, and [4, 6, None] for 4.
        outer = (self._items + [None] * depth)[: depth - 1]
        parent = next((item for item in reversed(outer) if item is not None), self._lead)
        self._items = [*outer, self._unit(kind, text, start, parent=parent)]
        self._last_was_line = True
        return start

    def gap(self) -> None:
        """End a list or table: the next line does not belong to it."""
        self._last_was_line = False
        self._lead = None

    def build(self) -> ParsedDocument:
        """Return the document; call it once, after the last block."""
        self._end_section()
        tables, pages = tuple(self._tables), tuple(self._pages)
        text, links = "".join(self._parts), tuple(self._links)
        sections, units = tuple(self._sections), tuple(self._units)
        return ParsedDocument(text, sections, units, tables=tables, pages=pages, links=links)

    def _plain_line(self, line: str, start: int, *, alone: bool) -> None:
        """Add the units of a line of plain text: an item, sentences, or none for a line that serves as a
        heading.

        ``start``: where the line is in the text; ``alone``: it is all of its paragraph.
        """
        if bullet := ITEM.match(line):
            self._plain_item(UnitKind.STEP if bullet[1] else UnitKind.ITEM, line, start)
        elif len(line.split()) > _LONGEST_TITLE_WORDS or line.endswith((*_CLAUSE_ENDS, ":")):
            self._sentences(line, start)
        elif self._lead is not None and self._units[self._lead].text.endswith(":"):  # a line of its list
            self._unit(UnitKind.ITEM, line, start, parent=self._lead)
        elif alone and len(line) <= _LONGEST_NAME:
            self._subheading = line
            self._lead = None
        else:
            self._sentences(line, start)

    def _plain_item(self, kind: UnitKind, line: str, start: int) -> None:
        """Add a list item of plain text. In a long item only the first sentence is the item, the others are
        sentences: an export may have joined the paragraph after the list to its last item."""
        sentences = split_sentences(line) if len(line.split()) > _LONGEST_ITEM_WORDS else []
        end = sentences[0].end if len(sentences) > 1 else len(line)
        self._unit(kind, line[:end], start, parent=self._lead)
        for sentence in sentences[1:]:
            self._unit(UnitKind.SENTENCE, sentence.text, start + sentence.start, parent=None)

    def _sentences(self, text: str, start: int) -> None:
        """Add a unit for each sentence. The last one becomes the lead of items that follow."""
        for sentence in split_sentences(text):
            self._lead = self._unit(UnitKind.SENTENCE, sentence.text, start + sentence.start, parent=None)

    def _unit(self, kind: UnitKind, text: str, start: int, *, parent: int | None) -> int:
        """Add a unit of a text that begins at ``start`` and is appended already; return its ordinal."""
        ordinal = len(self._units)
        names = [name for _, name in self._headings] + ([self._subheading] if self._subheading else [])
        span = Span(start, start + len(text))
        self._units.append(Unit(ordinal, kind, text, span, heading=" > ".join(names), parent=parent))
        return ordinal

    def _append_to_section(self, text: str, separator: str, links: Sequence[Link] = ()) -> int | None:
        """Append a normalized text that is no heading. Return where it begins; None for an empty one."""
        if not text:
            return None
        start = self._append(text, separator, links)
        if self._section_start is None:
            self._section_start = start
        return start

    def _append(self, text: str, separator: str, links: Sequence[Link]) -> int:
        """Append a text with its links, after the separator unless it is the first; return where it
        begins."""
        between = separator if self._parts else ""
        start = self.length + len(between)
        self._parts += [between, text]
        self.length = start + len(text)
        self._links += _moved_by(links, start)
        return start

    def _end_section(self) -> None:
        """End the section, if a text followed its heading."""
        if self._section_start is not None:
            span = Span(self._section_start, self.length)
            self._sections.append(Section(headings=tuple(name for _, name in self._headings), span=span))
            self._section_start = None


def _moved_by(links: Sequence[Link], by: int) -> list[Link]:
    """Return the links of a text that is placed ``by`` characters into another."""
    return [(start + by, end + by, address) for start, end, address in links]


def row_line(row: Sequence[str], names: Sequence[str], title: str) -> tuple[str, list[Span]]:
    """Return a row as a line, and the span of each cell in it: an empty cell has an empty span and is left
    out.

    ["First", "", "$20"] with the names ["Visit", "Day", "Fee"] is "Visit: First; Fee: $20": each line can be
    read alone. Below the title "By mail" it is "By mail > Visit: First; Fee: $20".
    """
    line = path = f"{title} > " if title and any(row) else ""
    places = list[Span]()
    separator = "; " if names else " | "
    for name, cell in zip_longest(names[: len(row)], row, fillvalue=""):
        if cell:
            line += (separator if line != path else "") + (f"{name}: " if name else "") + cell
        places.append(Span(len(line) - len(cell), len(line)))
    return line, places
