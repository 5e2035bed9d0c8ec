"""Converts PDF by pdfium: text in reading order, headings, lists, tables and page numbers.

The steps of ``convert_pdf``: ``_page_at`` reads the words of each page; ``_remove_running`` removes headers
and footers from them; ``_lay_out`` makes blocks of the words (``page_layout``), and ``_join_divided`` changes
the blocks of all pages in place; then ``_Writer`` measures the whole document, and writes page after page.

A ``pdf_page`` is a page of pypdfium2, a ``page`` what was read of it (``_Page``). ``model.Page`` is the
result: the whole document in the page model.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import Any

import pypdfium2  # pyright: ignore[reportMissingTypeStubs]

from assistant.documents import page as model
from assistant.documents.tables import Region, table_blocks
from assistant.domain.errors import DocumentInvalidError
from assistant.options.office.formats.page_layout import (
    BULLET,
    NUMBER,
    SAME_GAP,
    Block,
    Grid,
    Line,
    Paragraph,
    line_of,
    page_blocks,
    segments,
)
from assistant.options.office.formats.page_words import (
    UNREADABLE,
    Box,
    PageContent,
    Word,
    read_page,
    runs_of,
    shared,
    text_rows,
    unmarked,
)
from assistant.text.language import is_compound
from assistant.text.marks import PRIVATE_USE

MOST_PAGES = 1_000
"""Pages of a file. A page takes 15 to 20 ms, and the child has 20 s of CPU time."""
_MARGIN = 0.12
"""Share of a page's height, at its top and bottom: where running headers and footers are."""
_REPEATED = 0.3
"""Share of the pages: a margin line on so many is a running header or footer. Left and right pages may have
their own."""
_FEWEST_PAGES = 3
"""Pages on which a line repeats by intention; in a file of two pages, both."""
_HEADING_RATIO = 1.15
"""Height of a heading's letters to the body's. Word's and TeX's smallest headings in larger letters have 1.17
and 1.2; superscripts and other fonts on a line change its height by less than 1.1."""
_LONGEST_HEADING = 150
_HEADING_LINES = 2
"""Lines of a heading that is bold, and no larger than the body."""
_SENTENCE_WORDS = 8
"""Words from which a text with a full stop is no heading."""
_HIGHEST_HEADING = 3
"""Level of the largest headings: a page's own is above them."""
_LOWEST_HEADING = 6
_DIGITS = re.compile(r"\d+")
_PAGE_NUMBER = re.compile(
    r"(?:\b(?:page|seite|side|p|pg|s)\W{0,3})?#(?:\W{0,3}(?:of|von|de|sur|di|/)\W{0,3}\d{1,4})?", re.I
)
_SEPARATORS = " -\u2013\u2014|/\u00b7\u2022,;:"
"""What is between a page's number and other words of a running header."""
_WORDS = re.compile(r"\w+(?:-\w+)*")
_DIVIDED = re.compile(r"[^\W_][-\u2010\u00ad]$")
"""The first part of a word or number that the line's end divides."""
_LEADER = re.compile(r"[.\u2026_](?: ?[.\u2026_]){3,}")
"""Dots between an entry of a table of contents and its page."""
_ENTRY = re.compile(rf"{_LEADER.pattern} ?(\d{{1,4}})\Z")
_FEWEST_ENTRIES = 5
"""Entries of a table of contents on a page: a list of prices is in another order."""
_PRIVATE = re.compile(f"[{PRIVATE_USE}]")
_LONGEST_PAGE_NUMBER = 4
_SAME_HEIGHT = 40.0
"""Points: some lines, by which the texts above titles differ."""
_FULL = 0.7
"""Share of a page's height: a page whose text reaches lower is full."""
_XFA_FORMS = (pypdfium2.raw.FORMTYPE_XFA_FULL, pypdfium2.raw.FORMTYPE_XFA_FOREGROUND)
_SCAN_AREA = 0.3
"""Share of a page: a page without text and with images on more of it is a scan."""
_MOST_NOTED = 20


@dataclass(slots=True)
class _Page:
    number: int
    """Of the first page: 1."""
    height: float = 0.0
    """In points."""
    contents: list[PageContent] = field(default_factory=list[PageContent])
    """Its words; none where OCR read it."""
    blocks: list[Block] = field(default_factory=list[Block])
    """In reading order. They are changed in place until ``_Writer`` is made: see the module's docstring."""
    is_unread: bool = True
    """Whether it is a scan without text (that OCR did not read), or so damaged that nothing could be read."""
    watermark: str = ""
    has_fields: bool = False
    lost: Counter[str] = field(default_factory=Counter[str])
    """Number of words that are not in the text, by kind: UNREADABLE, "hidden words"."""


def convert_pdf(raw: bytes, *, ocr: Sequence[str] = ()) -> model.Page:
    """Return a PDF with a heading for each page. Scanned pages, and those in unreadable letters, are read in
    the languages ``ocr``; what is not read is among the losses.

    Raises DocumentInvalidError for an encrypted or damaged file, for a dynamic form, for one with more than
    MOST_PAGES, and for one without any text.
    """
    document = _opened(raw)
    try:
        if len(document) > MOST_PAGES:
            problem = f"it has {len(document):,} pages; at most {MOST_PAGES:,} are read"
            raise DocumentInvalidError(f"{problem}. Split it.")
        metadata = model.title_of(str(document.get_metadata_value("Title")))
        pages = [_page_at(document, index, ocr) for index in range(len(document))]
        if document.get_formtype() in _XFA_FORMS and not any(page.has_fields for page in pages):
            problem = "it is a dynamic form (XFA), whose fields only some programs show"
            raise DocumentInvalidError(f"{problem}. Print it to PDF, and add that.")
    finally:
        document.close()
    for page in pages:
        _remove_contents(page, len(pages))
    losses = (*_unread(pages), *(_loss(page, what) for page in pages for what in page.lost))
    running = _remove_running(pages)
    _lay_out(pages)
    if not any(page.blocks for page in pages):
        reason = "it has no text: its pages are scans" if _unread(pages) else "it has no text"
        if any(page.lost[UNREADABLE] for page in pages):
            reason = "its letters are not those that its fonts show"
        raise DocumentInvalidError(f"{reason}. Say ocr = true in its source, or add the text.")
    _join_divided(pages)
    writer = _Writer(pages)
    blocks = _without_empty_sections(
        [block for page in pages for block in writer.blocks_of(page)], writer.title
    )
    title = model.title_of(writer.title) or metadata
    banner = _banner(
        [*(page.watermark for page in pages if writer.is_same_mark), *running], f"{title} {metadata}"
    )
    return model.Page(blocks, title, banner, losses)


def _opened(raw: bytes) -> Any:
    try:
        document: Any = pypdfium2.PdfDocument(raw)
        document.init_forms()
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            problem = "it is encrypted with a password. Save it without one."
            raise DocumentInvalidError(problem) from None
        problem = "it is not a whole PDF: truncated or damaged. Copy or print it to PDF again."
        raise DocumentInvalidError(problem) from None
    return document


def _page_at(document: Any, index: int, ocr: Sequence[str]) -> _Page:
    """Return what is read of a page, with OCR where it is a scan or its letters are mostly unreadable. A page
    that pdfium cannot load has no blocks and is unread."""
    try:
        pdf_page = document[index]
    except pypdfium2.PdfiumError:
        return _Page(index + 1)
    try:
        width, height = pdf_page.get_size()
        text = read_page(pdf_page, document.formenv)
        contents, blocks = text.contents, list[Block]()
        words = sum(len(content.words) for content in contents)
        is_scan = not words and _image_area(pdf_page) > _SCAN_AREA * width * height
        is_unreadable = text.lost[UNREADABLE] > words
        if ocr and (is_scan or is_unreadable) and (read := scan_blocks(pdf_page, ocr)):
            contents, blocks, is_scan = [], read, False
            del text.lost[UNREADABLE]
    finally:
        pdf_page.close()
    return _Page(index + 1, height, contents, blocks, is_scan, text.watermark, text.has_fields, text.lost)


def _image_area(pdf_page: Any) -> float:
    """Return the area of the page's largest image, in square points."""
    images = pdf_page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE])
    bounds = (image.get_bounds() for image in images)
    return max(((right - left) * (top - bottom) for left, bottom, right, top in bounds), default=0.0)


def _loss(page: _Page, what: str) -> model.Loss:
    return model.Loss(what, str(model.Place("page", page.number)), page.lost[what])


def _unread(pages: Sequence[_Page]) -> tuple[model.Loss, ...]:
    """Return one loss for all unread pages, with the first numbers; none if there is no such page. Its text
    says "scans" for damaged pages, too."""
    unread = [str(page.number) for page in pages if page.is_unread]
    where = f"page{'s' * (len(unread) > 1)} {model.first_of(unread, most=_MOST_NOTED)}"
    return (model.Loss("scans without text", where, count=len(unread)),) if unread else ()


# --- running headers and footers --------------------------------------------------------------------------
_Key = tuple[str, int | None, int]
"""What a line may have in common with those of other pages: its text with "#" in place of a number that may
be the page's, that number less the page's own (None: no number was replaced), and the size of the letters."""


def _remove_running(pages: Sequence[_Page]) -> list[str]:
    """Remove the lines in the margins that pages have in common, and return the text of each, with "#" for
    the page's number. Lines that differ in another number than the page's are content.

    Example: three pages begin with "Chapter 2 - 1", "Chapter 2 - 2" and "Chapter 2 - 3", all in 9 points.

    1. Keys of the first: ("Chapter # - 1", 1, 9), ("Chapter 2 - #", 0, 9) and ("Chapter 2 - 1", None, 9).
    2. Pages with each key: 3 with ("Chapter 2 - #", 0, 9), one with each other.
    3. The commonest key of each line is therefore that one, which is on enough pages.
    4. No other commonest key differs from it in numbers alone, as ("Chapter 3 - #", 0, 9) would.
    5. The lines are removed, and the result is ["Chapter 2 - #"].

    A line of a part of the pages stays on the first of them, if its letters are no larger than most are.
    """
    margins = [[(line, _keys(page, line)) for line in _margin(page)] for page in pages]
    pages_with = Counter(key for lines in margins for key in {key for _, keys in lines for key in keys})
    # by id, for a Line has no hash
    commonest = {id(line): max(keys, key=pages_with.__getitem__) for lines in margins for line, keys in lines}
    same_but_numbers = Counter(_DIGITS.sub("#", text) for text in {key[0] for key in commonest.values()})
    with_text = sum(any(content.words for content in page.contents) or bool(page.blocks) for page in pages)
    # on a share of a long file's pages, on three pages of a short one, on both of two
    fewest = max(2, min(_FEWEST_PAGES, with_text), _REPEATED * with_text)
    running = {  # a dict, for it keeps the order
        key: None
        for key in commonest.values()
        if pages_with[key] >= fewest and same_but_numbers[_DIGITS.sub("#", key[0])] == 1
    }
    sizes = Counter(round(word.size) for page in pages for content in page.contents for word in content.words)
    body = max(sizes, key=sizes.__getitem__, default=0)
    removed = set[int]()
    before = dict[_Key, int]()
    for page, lines in zip(pages, margins, strict=True):
        for line, _ in lines:
            key = commonest[id(line)]
            goes_on = page.number - before.get(key, -_FEWEST_PAGES) < _FEWEST_PAGES
            is_of_part = goes_on and key[2] <= body and pages_with[key] >= _FEWEST_PAGES
            if key in running or (is_of_part and same_but_numbers[_DIGITS.sub("#", key[0])] == 1):
                removed |= {id(word) for word in line.words}
            before[key] = page.number
    for content in (content for page in pages for content in page.contents):
        content.words[:] = [word for word in content.words if id(word) not in removed]
    return [text for text, _, _ in running]


def _remove_contents(page: _Page, pages: int) -> None:
    """Remove a table of contents, which is found with most words and answers nothing: lines with dots and
    rising numbers of the document's pages, and the lines between them."""
    for content in page.contents:
        rows = text_rows(content.words)
        entries = [(at, _ENTRY.search(line_of(row).text)) for at, row in enumerate(rows)]
        numbers = {at: int(found[1]) for at, found in entries if found}
        different = [*dict.fromkeys(numbers.values())]
        is_rising = different == sorted(different) and len(different) > 1 and different[-1] <= pages
        if is_rising and len(numbers) >= _FEWEST_ENTRIES:
            removed = [word for row in rows[min(numbers) : max(numbers) + 1] for word in row]
            ids = {*map(id, removed)}
            content.words[:] = [word for word in content.words if id(word) not in ids]
            page.lost[model.BESIDE_WORDS] += sum(any(map(str.isalnum, word.text)) for word in removed)


def _margin(page: _Page) -> Iterator[Line]:
    """Yield the lines at the top and bottom of a page, where running headers and footers are, but for rows of
    a table."""
    for content in page.contents:
        rows = text_rows(content.words)
        for of_side in (rows, rows[::-1]):
            for at, row in enumerate(of_side):
                line = line_of(row)
                is_top = line.box.bottom < _MARGIN * page.height
                is_bottom = line.box.top > (1 - _MARGIN) * page.height
                if not (is_top if of_side is rows else is_bottom):
                    break
                if not _is_in_table(of_side[at : at + 3]):
                    yield line


def _is_in_table(rows: Sequence[Sequence[Word]]) -> bool:
    """Return whether a row lies over cells of the next one, or has as many (three or more), as that does with
    the one after, and is not farther from it."""
    lines = [segments(words) for words in rows]
    over = [
        sum(
            len(row) == len(inner) > 2 or any(shared(line.box, other.box) > 0 for other in inner)
            for line in row
        )
        for row, inner in pairwise(lines)
    ]
    gaps = [abs(inner[0].box.middle[1] - row[0].box.middle[1]) for row, inner in pairwise(lines)]
    return len(rows) > 2 and min(over) > 1 and gaps[0] < SAME_GAP * gaps[1]


def _keys(page: _Page, line: Line) -> list[_Key]:
    """Return a key for each number of the line that may be the page's, and one for none of them."""
    text, size = line.text, round(line.size)
    numbers = (number for number in _DIGITS.finditer(text) if len(number[0]) <= _LONGEST_PAGE_NUMBER)
    keys: list[_Key] = [
        (f"{text[: number.start()]}#{text[number.end() :]}", int(number[0]) - page.number, size)
        for number in numbers
    ]
    return [*keys, (text, None, size)]


def _banner(texts: Iterable[str], titles: str) -> str:
    """Return the texts that say more than a page's number and the document's titles, in one line."""
    known = set(_WORDS.findall(titles.casefold()))
    shown = (" ".join(_PAGE_NUMBER.sub(" ", unmarked(text)).split()).strip(_SEPARATORS) for text in texts)
    more = (
        text for text in shown if any(map(str.isalpha, text)) and set(_WORDS.findall(text.casefold())) - known
    )
    return "; ".join(dict.fromkeys(more))


def _lines(page: _Page) -> Iterator[Line]:
    for block in page.blocks:
        if isinstance(block, Paragraph):
            yield from block.lines


def _lay_out(pages: Sequence[_Page]) -> None:
    """Make the blocks of the pages."""
    before: Grid | None = None
    for page in pages:
        for content in page.contents:
            page.blocks += page_blocks(content, before if content is page.contents[0] else None)
        tables = [block for block in page.blocks if isinstance(block, Grid)]
        before = tables[-1] if tables else None


def _join_divided(pages: Sequence[_Page]) -> None:
    """Join paragraphs that the end of a column or page divides, on the page where they begin; the lines of
    the second become the first's."""
    before: Block | None = None
    for page in pages:
        kept: list[Block] = []
        for block in page.blocks:
            if isinstance(before, Paragraph) and isinstance(block, Paragraph) and _continues(before, block):
                before.lines += block.lines
            else:
                kept.append(block)
                before = block
        page.blocks = kept


def _continues(before: Paragraph, block: Paragraph) -> bool:
    """Return whether the text goes on in the middle of a sentence, in letters of the same size."""
    is_open = not before.lines[-1].text.endswith((".", "!", "?", ":", ";"))
    is_open = is_open and not NUMBER.match(block.lines[0].text)
    return is_open and block.lines[0].text[:1].islower() and round(before.size) == round(block.size) > 0


# --- blocks -----------------------------------------------------------------------------------------------
class _Writer:
    """Writes the pages, which must be called for in their order: it remembers the section and the table that
    go on from page to page."""

    def __init__(self, pages: Sequence[_Page]) -> None:
        # ``_body``, ``_body_is_bold`` and ``_of_text`` come first: ``_is_larger`` and ``_is_heading`` read
        # them, and find the headings for ``_levels``.
        self._body = _body_size(pages)
        lines = [line for page in pages for line in _lines(page)]
        self._vocabulary = {word for line in lines for word in _WORDS.findall(line.text)}
        bold = sum(len(line.text) for line in lines if line.is_bold)
        self._body_is_bold = 2 * bold > sum(len(line.text) for line in lines)
        """Whether most of the text is bold: then bold text is no heading."""
        paragraphs = [block for page in pages for block in page.blocks if isinstance(block, Paragraph)]
        self._of_text = _styles_of_text(paragraphs)
        headings = filter(self._is_heading, filter(self._is_larger, paragraphs))
        sizes = sorted({round(block.size) for block in headings}, reverse=True)
        first = min(_HIGHEST_HEADING, _LOWEST_HEADING - len(sizes))
        self._levels = {size: max(_HIGHEST_HEADING, at) for at, size in enumerate(sizes, start=first)}
        """Level by size, in points: 3 for the largest headings, 4 for the next size; of many sizes the
        largest ones, as on a cover, are 3 as well."""
        self._has_text_above = self._is_above(pages)
        self.is_same_mark = len({page.watermark for page in pages if page.blocks}) < 2
        """Whether a watermark holds for all pages: one that some lack is in the headings of its pages."""
        self._section: model.Heading | None = None
        """The last heading so far, if its section may go on."""
        self._is_full = False
        """Whether the page before is: then what begins the next one goes on with its section."""
        self._open_table = Region([], [])
        """The last table of the section; empty without one."""
        self._table_goes_on = False
        """Whether a table of the page before goes on above the page's first heading."""
        self.title: str | None = None
        """The largest heading of the first page that has one."""

    def blocks_of(self, page: _Page) -> list[model.Block]:
        """Return the page under a heading with its number, and with the section that goes on in it."""
        if not page.blocks:
            return []
        at = self._first_heading(page)
        above = [new for block in page.blocks[:at] for new in self._blocks(block)]
        if at != 0 and not self._is_full and not self._table_goes_on:
            self._section = None
        is_below = bool(at) and self._has_text_above and not self._table_goes_on
        section = [self._section] if self._section and at != 0 and not is_below else []
        self._is_full, self._table_goes_on = _is_full(page), False
        rest = [] if at is None else [new for block in page.blocks[at:] for new in self._blocks(block)]
        place = model.Place("page", page.number)
        mark = _banner([] if self.is_same_mark else [page.watermark], "")
        name = model.plain(f"Page {page.number}: {mark}" if mark else f"Page {page.number}")
        made: list[model.Block] = [model.Heading(_HIGHEST_HEADING - 1, name, place)]
        for new in [*rest[:1], *above, *rest[1:]] if is_below else [*section, *above, *rest]:
            match made[-1], new:
                case model.List() as last, model.List(items) if last.is_ordered == new.is_ordered:
                    made[-1] = replace(last, items=(*last.items, *items))
                case _:
                    made.append(new)
        return made

    def _first_heading(self, page: _Page) -> int | None:
        """Return the position of a page's first heading; None without one."""
        return next((at for at, block in enumerate(page.blocks) if self._level(block) is not None), None)

    def _is_above(self, pages: Sequence[_Page]) -> bool:
        """Return whether the pages are built with a text above their titles, as opening hours are above the
        name of a room.

        They are where each page with a heading has its first one in the upper half, below a text, and either
        all of these are near the same height, but for a cover, or no page is full: then no text goes on.
        Pages on which a table goes on do not tell.
        """
        headed = [(page, at) for page in pages if (at := self._first_heading(page)) is not None]
        first = [(page, at) for page, at in headed if not any(map(_is_further, page.blocks[:at]))]
        has_cover = bool(first) and first[0][1] == 0
        first = first[has_cover:]
        tops = [_box(page.blocks[at]).top for page, at in first]
        if not all(at and 2 * top < page.height for (page, at), top in zip(first, tops, strict=True)):
            return False
        is_form = len(tops) >= _FEWEST_PAGES and max(tops) - min(tops) < _SAME_HEIGHT
        return is_form or (len(tops) > 1 and not has_cover and not any(map(_is_full, pages[:-1])))

    def _blocks(self, block: Block) -> list[model.Block]:
        if isinstance(block, Grid):
            return self._table(block)
        text = self._text(block)
        level = self._level(block)
        if level is not None:
            self._open_table = Region([], [])
            self.title = self.title or unmarked(text)
            self._section = model.Heading(level, runs_of(text))
            return [self._section]
        if marker := BULLET.match(text) or NUMBER.match(text):
            shown = _PRIVATE.sub("\u2022", marker[0].strip())
            item = model.Item(shown, (model.Paragraph(runs_of(text[marker.end() :])),))
            return [model.List((item,), is_ordered=shown[-1] in ".)")]
        return [model.Paragraph(runs_of(text))]

    def _table(self, block: Grid) -> list[model.Block]:
        """Return the table; one that goes on from the page before gets the names of its columns again."""
        before = self._open_table if block.goes_on else Region([], [])
        regions, count = [before] if before.rows else [], len(before.rows)
        made = table_blocks(block.rows, regions=regions)
        self._table_goes_on |= len(before.rows) > count
        self._open_table = regions[-1] if regions else Region([], [])
        return made

    def _is_larger(self, block: Paragraph) -> bool:
        return block.size >= _HEADING_RATIO * self._body and _style(block) not in self._of_text | {(0, False)}

    def _is_heading(self, block: Paragraph) -> bool:
        """Return whether the paragraph is short, has words, and is larger or bolder than the body."""
        length = sum(len(line.text) for line in block.lines)
        last = block.lines[-1].text
        is_text = any(map(str.isalpha, last)) and not BULLET.match(last) and not _LEADER.search(last)
        if length > _LONGEST_HEADING or not is_text:
            return False
        is_alone = len(block.lines) <= _HEADING_LINES and not last.endswith((".", ",", ";"))
        return self._is_larger(block) or (block.is_bold and not self._body_is_bold and is_alone)

    def _level(self, block: Block) -> int | None:
        """Return the level of a heading by the rank of its size; None for other blocks."""
        if not isinstance(block, Paragraph) or not self._is_heading(block):
            return None
        lowest = min(_HIGHEST_HEADING + len(self._levels), _LOWEST_HEADING)
        return self._levels.get(round(block.size), lowest)

    def _text(self, block: Paragraph) -> str:
        """Return the lines as one text; a word that a line's end divides is joined."""
        text = ""
        for line in block.lines:
            is_divided = _DIVIDED.search(text) is not None
            text = self._joined(text, line.text) if is_divided else f"{text} {line.text}".strip()
        return _LEADER.sub(" … ", text.replace("\u00ad", ""))

    def _joined(self, text: str, following: str) -> str:
        """Return both with the hyphen where the document has only the hyphenated word, else without it where
        it has that word, else as the parts tell."""
        first, second = (_WORDS.findall(part) or [""] for part in (text, following))
        parts = first[-1].rpartition("-")[2], second[0].partition("-")[0]
        if not parts[1] or (parts[1][0].isupper() and not parts[0].isupper()):
            return f"{text[:-1]}-{following}"
        with_hyphen, without = (sign.join((first[-1], second[0])) in self._vocabulary for sign in ("-", ""))
        keeps = with_hyphen if with_hyphen != without else not without and is_compound(*parts)
        return f"{text[:-1]}-{following}" if keeps else text[:-1] + following


def _style(block: Paragraph) -> tuple[int, bool]:
    return round(block.size), block.is_bold


def _styles_of_text(paragraphs: Iterable[Paragraph]) -> set[tuple[int, bool]]:
    """Return the sizes, with whether they are bold, whose letters are mostly in texts that are no headings:
    the body may be larger than the letters of the tables, which are more."""
    letters = Counter[tuple[int, bool]]()
    for block in paragraphs:
        text = " ".join(line.text for line in block.lines)
        is_sentence = text.endswith(".") and len(text.split()) >= _SENTENCE_WORDS
        letters[_style(block)] += len(text) * (1 if is_sentence or len(text) > _LONGEST_HEADING else -1)
    return {style for style, more in letters.items() if more > 0}


def _without_empty_sections(blocks: Sequence[model.Block], title: str | None) -> tuple[model.Block, ...]:
    """Return the blocks with headings that have nothing below them as texts: a section without text is not
    stored. The title is, and a heading that the next page has again."""
    made = list[model.Block]()
    for at, block in enumerate(blocks):
        below = [*blocks[at + 1 : at + 3]]
        ends = not below or (
            isinstance(below[0], model.Heading) and below[0].level <= getattr(block, "level", 0)
        )
        is_empty = ends and block not in below
        if (
            isinstance(block, model.Heading)
            and is_empty
            and block.level >= _HIGHEST_HEADING
            and model.text_of(block.runs) != title
        ):
            made.append(model.Paragraph(block.runs))
        else:
            made.append(block)
    return tuple(made)


def _body_size(pages: Sequence[_Page]) -> float:
    """Return the size of most characters, in points."""
    sizes = Counter[float]()
    for block in (block for page in pages for block in page.blocks):
        if isinstance(block, Grid):
            sizes[round(block.size * 2) / 2] += block.letters
        else:
            for line in block.lines:
                sizes[round(line.size * 2) / 2] += len(line.text) if line.size else 0  # unknown of a scan
    return sizes.most_common(1)[0][0] if sizes else 0.0


def _box(block: Block) -> Box:
    return block.box if isinstance(block, Grid) else block.lines[0].box


def _is_further(block: Block) -> bool:
    """Return whether a block is a further part of a table."""
    return isinstance(block, Grid) and block.goes_on


def _is_full(page: _Page) -> bool:
    """Return whether the text of a page reaches the lower part of it."""
    boxes = [line.box for line in _lines(page)] + [_box(block) for block in page.blocks]
    return max((box.bottom for box in boxes), default=0.0) > _FULL * page.height


PAGE_LIMIT_S = 30.0
"""Twenty times the CPU time of a page of print, for a machine that is busy. A page that takes longer stays a
scan without text."""
_DOTS_PER_INCH = 300
"""As tesseract's documentation advises."""
_MOST_PIXELS = 40_000_000
"""An A3 page has 17 million. A larger page is rendered with fewer dots."""
_MISSING = (
    "it has scanned pages, and its source says ocr = true, but the program tesseract is not installed here. "
    "Install it (Debian: apt-get install tesseract-ocr) and add the file again."
)


def scan_blocks(pdf_page: Any, languages: Sequence[str]) -> list[Block]:
    """Return the paragraphs of a pypdfium2 page that is a picture; none if there is no text in it.

    The program tesseract is a child of the parsing process, with its limits of memory, file size and CPU
    time.
    Raises DocumentInvalidError where tesseract or one of the languages is not installed.
    """
    width, height = pdf_page.get_size()
    middle = Box(0.0, height / 2, width, height / 2)  # in no margin: no line of it is a running header
    return [
        Paragraph([Line(line, middle, is_bold=False, size=0.0, place=0) for line in lines])
        for block in _recognised(pdf_page, languages).split("\n\n")
        if (lines := [" ".join(line.split()) for line in block.splitlines() if line.strip()])
    ]


def _recognised(pdf_page: Any, languages: Sequence[str]) -> str:
    """Return the text that tesseract reads, with a blank line between paragraphs; "" after PAGE_LIMIT_S."""
    program = shutil.which("tesseract")
    if program is None:
        raise DocumentInvalidError(_MISSING)
    if missing := sorted(set(languages) - _installed(program)):
        problem = (
            f"ocr_languages of its source names {', '.join(missing)}, which tesseract does not have here"
        )
        raise DocumentInvalidError(
            f"{problem}. Install it (Debian: tesseract-ocr-LANGUAGE) or change the key."
        )
    command = [program, "stdin", "stdout", "-l", "+".join(languages), "--dpi", str(_DOTS_PER_INCH)]
    try:
        ran = _run(command, picture=_picture(pdf_page))
    except subprocess.TimeoutExpired:
        return ""
    if ran.returncode != 0:
        problem = f"tesseract ended on a scanned page (status {ran.returncode})"
        raise DocumentInvalidError(f"{problem}. Scan it again with fewer dots, or add its text.")
    return ran.stdout.decode(errors="replace")


@cache
def _installed(program: str) -> frozenset[str]:
    """Return the languages that tesseract can read. It passes over one that it lacks without an error."""
    _, *names = _run([program, "--list-langs"]).stdout.decode().split("\n")
    return frozenset(name.strip() for name in names)


def _run(command: Sequence[str], *, picture: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    one_thread = os.environ | {"OMP_THREAD_LIMIT": "1"}  # each reserves address space
    return subprocess.run(
        command, input=picture, capture_output=True, timeout=PAGE_LIMIT_S, env=one_thread, check=False
    )


def _picture(pdf_page: Any) -> bytes:
    """Return the page in shades of grey, as a portable graymap (PGM)."""
    width, height = pdf_page.get_size()
    dots = _DOTS_PER_INCH / 72
    scale = min(dots, (_MOST_PIXELS / (width * height)) ** 0.5)
    bitmap = pdf_page.render(scale=scale, grayscale=True)
    rows, stride = memoryview(bytes(bitmap.buffer)), bitmap.stride
    lines = (rows[row * stride : row * stride + bitmap.width] for row in range(bitmap.height))
    return b"".join((b"P5 %d %d 255\n" % (bitmap.width, bitmap.height), *lines))
