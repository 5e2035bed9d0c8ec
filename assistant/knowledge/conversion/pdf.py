"""Converts PDF by pdfium: text in reading order, headings, tables and page numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import pypdfium2  # pyright: ignore[reportMissingTypeStubs]

from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.conversion.markup import Converted, heading, is_header, table, title_of
from assistant.knowledge.conversion.page_layout import BULLET, Block, Line, Paragraph, page_blocks
from assistant.knowledge.conversion.page_words import page_contents
from assistant.knowledge.conversion.ruled_tables import Table
from assistant.knowledge.conversion.scans import scan_blocks

MOST_PAGES = 1_000
"""Pages of a file. A page takes 15 to 20 ms, and the child has 20 s of CPU time."""
_MARGIN = 0.12
"""Of a page's height, at its top and bottom: where running headers and footers are."""
_REPEATED = 0.3
"""Of the pages: a margin line on so many is a running header or footer. Left and right pages may have
their own."""
_FEWEST_PAGES = 3
"""Pages from which lines repeat by intention."""
_HEADING_RATIO = 1.15
"""Height of a heading's letters to the body's. Word's and TeX's smallest headings in larger letters have 1.17
and 1.2; superscripts and other fonts on a line change its height by less than 1.1."""
_LONGEST_HEADING = 150
_HIGHEST_HEADING = 3
"""Level of the largest headings: a page's own is above them."""
_DIGITS = re.compile(r"\d+")
_WORDS = re.compile(r"\w+(?:-\w+)*")
_DIVIDED = re.compile(r"[^\W_]-$")
"""The first part of a word or number that the line's end divides."""
_STEP = re.compile(r"\(?(\d{1,3})[.)]\s+")
_LEADER = re.compile(r"[.\u2026_]{4,}")
"""Dots between an entry of a table of contents and its page."""
_SAME_EDGE = 5.0
"""Points between the edges of a table's parts on two pages."""
_XFA_FORMS = (pypdfium2.raw.FORMTYPE_XFA_FULL, pypdfium2.raw.FORMTYPE_XFA_FOREGROUND)
_SCAN_AREA = 0.3
"""Of a page: a page without text and with images on more of it is a scan."""
_MOST_NOTED = 20


@dataclass(slots=True)
class _Page:
    number: int
    height: float
    blocks: list[Block]
    has_image: bool


def convert_pdf(raw: bytes, *, ocr: Sequence[str] = ()) -> Converted:
    """Return a PDF with a heading for each page. Scanned pages are read in the languages ``ocr``; those
    without text are named in the notes.

    Raises DocumentInvalidError for an encrypted or damaged file, for one with more than MOST_PAGES, and for
    one without any text.
    """
    document = _opened(raw)
    try:
        if len(document) > MOST_PAGES:
            problem = f"it has {len(document):,} pages; at most {MOST_PAGES:,} are read"
            raise DocumentInvalidError(f"{problem}. Split it.")
        metadata = str(document.get_metadata_value("Title"))
        pages = [_page(document, index, ocr) for index in range(len(document))]
    finally:
        document.close()
    notes = _notes(pages)
    if not any(page.blocks for page in pages):
        problem = "it has no text: its pages are scans" if notes else "it has no text"
        raise DocumentInvalidError(f"{problem}. Say ocr = true in its source, or add the text.")
    _remove_repeated(pages)
    _join_divided(pages)
    writer = _Writer(pages)
    html = "".join(map(writer.page, pages))
    return Converted(title_of(writer.title) or title_of(metadata), html, notes)


def _opened(raw: bytes) -> Any:
    try:
        document: Any = pypdfium2.PdfDocument(raw)
        if document.get_formtype() not in _XFA_FORMS:  # pdfium without XFA shows their PDF pages
            document.init_forms()
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            problem = "it is encrypted with a password. Save it without one."
            raise DocumentInvalidError(problem) from None
        problem = "it is not a whole PDF: truncated or damaged. Copy or print it to PDF again."
        raise DocumentInvalidError(problem) from None
    return document


def _page(document: Any, index: int, ocr: Sequence[str]) -> _Page:
    try:
        page = document[index]
    except pypdfium2.PdfiumError:
        return _Page(index + 1, 0.0, [], has_image=True)
    try:
        width, height = page.get_size()
        blocks = [block for content in page_contents(page) for block in page_blocks(content)]
        has_image = not blocks and _image_area(page) > _SCAN_AREA * width * height
        blocks = scan_blocks(page, ocr) if has_image and ocr else blocks
    finally:
        page.close()
    return _Page(index + 1, height, blocks, has_image and not blocks)


def _image_area(page: Any) -> float:
    """Return the area of the page's largest image, in square points."""
    images = page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE])
    bounds = (image.get_bounds() for image in images)
    return max(((right - left) * (top - bottom) for left, bottom, right, top in bounds), default=0.0)


def _notes(pages: Sequence[_Page]) -> tuple[str, ...]:
    scans = [page.number for page in pages if page.has_image]
    more = f" and {len(scans) - _MOST_NOTED:,} more" if len(scans) > _MOST_NOTED else ""
    numbers = ", ".join(map(str, scans[:_MOST_NOTED]))
    return (f"pages without text (scans): {numbers}{more}",) if scans else ()


# --- running headers and footers --------------------------------------------------------------------------
def _remove_repeated(pages: Sequence[_Page]) -> None:
    """Remove the lines in the margins that most pages have, whatever number is in them."""
    counts = Counter(key for page in pages for key in {_key(page, line) for line in _lines(page)} if key)
    most = max(_FEWEST_PAGES, _REPEATED * sum(bool(page.blocks) for page in pages))
    repeated = {key for key, count in counts.items() if count >= most}
    for page in pages:
        for block in page.blocks:
            if isinstance(block, Paragraph):
                block.lines = [line for line in block.lines if _key(page, line) not in repeated]
        page.blocks = [block for block in page.blocks if isinstance(block, Table) or block.lines]


def _lines(page: _Page) -> Iterator[Line]:
    for block in page.blocks:
        if isinstance(block, Paragraph):
            yield from block.lines


def _key(page: _Page, line: Line) -> str:
    """Return what the lines of a running header have in common; nothing for a line of the body."""
    is_margin = line.box.bottom < _MARGIN * page.height or line.box.top > (1 - _MARGIN) * page.height
    return _DIGITS.sub("#", line.text) if is_margin else ""


def _join_divided(pages: Sequence[_Page]) -> None:
    """Join paragraphs that the end of a column or page divides, on the page where they begin."""
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
    return is_open and block.lines[0].text[:1].islower() and round(before.size) == round(block.size) > 0


# --- HTML ---------------------------------------------------------------------------------------------------
class _Writer:
    """Writes the pages one after the other; remembers the section that goes on from page to page."""

    def __init__(self, pages: Sequence[_Page]) -> None:
        self._body = _body_size(pages)
        lines = [line for page in pages for line in _lines(page)]
        self._vocabulary = {word for line in lines for word in _WORDS.findall(line.text)}
        bold = sum(len(line.text) for line in lines if line.is_bold)
        self._is_bold = 2 * bold > sum(len(line.text) for line in lines)
        """Whether most of the text is bold: then bold text is no heading."""
        paragraphs = [block for page in pages for block in page.blocks if isinstance(block, Paragraph)]
        headings = filter(self._is_heading, filter(self._is_larger, paragraphs))
        sizes = sorted({round(block.size) for block in headings}, reverse=True)
        self._levels = {size: level for level, size in enumerate(sizes, start=_HIGHEST_HEADING)}
        self._section = ""
        self._step = 0
        """The number of the last item, in a list that goes on."""
        self._open_table: Table | None = None
        """The last block, if it is a table with names of columns."""
        self.title: str | None = None
        """The largest heading of the first page that has one."""

    def page(self, page: _Page) -> str:
        """Return the page under a heading with its number, and with the section that goes on in it."""
        if not page.blocks:
            return ""
        begins = self._level(page.blocks[0]) is not None
        name = f"Page {page.number}" + (f": {self._section}" if self._section and not begins else "")
        top = heading(_HIGHEST_HEADING - 1, name, anchor=f"page-{page.number}")
        body = "".join(map(self._block, page.blocks))
        return top + body.replace("</ul>\n<ul>", "").replace("</ol>\n<ol>", "")

    def _block(self, block: Block) -> str:
        if isinstance(block, Table):
            return self._table(block)
        self._open_table = None
        text = self._text(block)
        level = self._level(block)
        if level is not None:
            self._section = text
            self.title = self.title or text
            return heading(level, text)
        return self._item(text)

    def _table(self, block: Table) -> str:
        """Return the table; one that goes on from the page before gets the names of its columns again."""
        before, rows, has_header = self._open_table, block.rows, block.has_header
        if has_header is None:
            has_header = is_header(rows)
        if not has_header and before is not None and _goes_on(before, block):
            rows, has_header = [before.rows[0], *rows], True
        self._open_table = replace(block, rows=rows) if has_header else None
        return table(rows, has_header=has_header)

    def _item(self, text: str) -> str:
        """Return a paragraph, or an item of a list. Numbers that do not count up from 1 stay text."""
        step, bullet = _STEP.match(text), BULLET.match(text)
        if step and int(step[1]) == self._step + 1:
            self._step += 1
            return f"<ol><li>{escape(text[step.end() :])}</li></ol>\n"
        self._step = 0
        if bullet:
            return f"<ul><li>{escape(text[bullet.end() :])}</li></ul>\n"
        return f"<p>{escape(text)}</p>\n"

    def _is_larger(self, block: Paragraph) -> bool:
        return block.size > 0 and block.size >= _HEADING_RATIO * self._body

    def _is_heading(self, block: Paragraph) -> bool:
        """Return whether the paragraph is short, has words, and is larger or bolder than the body."""
        length = sum(len(line.text) for line in block.lines)
        last = block.lines[-1].text
        is_text = any(map(str.isalpha, last)) and not BULLET.match(last) and not _LEADER.search(last)
        if length > _LONGEST_HEADING or not is_text:
            return False
        is_alone = len(block.lines) == 1 and not last.endswith((".", ",", ";"))
        return self._is_larger(block) or (block.is_bold and not self._is_bold and is_alone)

    def _level(self, block: Block) -> int | None:
        """Return the level of a heading by the rank of its size; None for other blocks."""
        if not isinstance(block, Paragraph) or not self._is_heading(block):
            return None
        return self._levels.get(round(block.size), _HIGHEST_HEADING + len(self._levels))

    def _text(self, block: Paragraph) -> str:
        """Return the lines as one text; a word that a line's end divides is joined."""
        text = ""
        for line in block.lines:
            if text.endswith("\u00ad") or (_DIVIDED.search(text) and line.text[:1].islower()):
                text = self._joined(text, line.text)
            else:
                text = text + line.text if _DIVIDED.search(text) else f"{text} {line.text}".strip()
        return _LEADER.sub(" … ", text.replace("\u00ad", ""))

    def _joined(self, text: str, following: str) -> str:
        """Return both without the hyphen, unless only the hyphenated word is elsewhere in the document."""
        first, second = _WORDS.findall(text)[-1:], _WORDS.findall(following)[:1]
        with_hyphen, without = "-".join(first + second), "".join(first + second)
        keeps = with_hyphen in self._vocabulary and without not in self._vocabulary
        return f"{text[:-1]}-{following}" if keeps else text[:-1] + following


def _body_size(pages: Sequence[_Page]) -> float:
    """Return the size of most characters, in points."""
    sizes = Counter[float]()
    for page in pages:
        for line in _lines(page):
            sizes[round(line.size * 2) / 2] += len(line.text) if line.size else 0  # unknown of a scan
        for block in page.blocks:
            if isinstance(block, Table):
                sizes[round(block.size * 2) / 2] += sum(len(cell) for row in block.rows for cell in row)
    return sizes.most_common(1)[0][0] if sizes else 0.0


def _goes_on(before: Table, block: Table) -> bool:
    """Return whether a table has the columns of the one before."""
    edges = (before.box.left - block.box.left, before.box.right - block.box.right)
    return len(before.rows[0]) == len(block.rows[0]) and all(abs(edge) < _SAME_EDGE for edge in edges)
