"""Converts PDF by pdfium: text in reading order, headings, lists, tables and page numbers.

1. ``_page`` reads a page (``page_words``), orders it into blocks (``page_layout``), or recognises a scan.
2. ``_remove_running`` takes running headers and footers out of the margins.
3. ``_join_divided`` joins paragraphs that a page's end divides.
4. ``_Writer`` makes headings, lists and tables of the blocks:

    Heading 2   "Page 3: Returns"          the page, with the section that goes on in it
    Heading 3   "Defective goods"          letters of the largest size
    Paragraph   "Send them back within …"
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
from typing import Any

import pypdfium2  # pyright: ignore[reportMissingTypeStubs]

from assistant.documents import page as model
from assistant.documents.parsing.render import table_blocks
from assistant.domain.errors import DocumentInvalidError
from assistant.options.office.formats.page_layout import (
    BULLET,
    NUMBER,
    Block,
    Grid,
    Line,
    Paragraph,
    page_blocks,
)
from assistant.options.office.formats.page_words import UNREADABLE, Box, read_page, runs_of, unmarked

MOST_PAGES = 1_000
"""Pages of a file. A page takes 15 to 20 ms, and the child has 20 s of CPU time."""
_MARGIN = 0.12
"""Share of a page's height, at its top and bottom: where running headers and footers are."""
_REPEATED = 0.3
"""Share of the pages: a margin line on so many is a running header or footer. Left and right pages may have
their own."""
_FEWEST_PAGES = 3
"""Pages from which lines repeat by intention; of a file of two pages, both."""
_HEADING_RATIO = 1.15
"""Height of a heading's letters to the body's. Word's and TeX's smallest headings in larger letters have 1.17
and 1.2; superscripts and other fonts on a line change its height by less than 1.1."""
_LONGEST_HEADING = 150
"""Characters."""
_HIGHEST_HEADING = 3
"""Level of the largest headings: a page's own is above them."""
_DIGITS = re.compile(r"\d+")
# A page's number ("#") with what is around it: "Page # of 12", "- # -".
_PAGE_NUMBER = re.compile(
    r"(?:\b(?:page|seite|side|p|pg|s)\W{0,3})?#(?:\W{0,3}(?:of|von|de|sur|di|/)\W{0,3}\d{1,4})?", re.I
)
_SEPARATORS = " -\u2013\u2014|/\u00b7\u2022,;:"
"""What is between a page's number and other words of a running header."""
_WORDS = re.compile(r"\w+(?:-\w+)*")
_DIVIDED = re.compile(r"[^\W_][-\u2010]$")
"""The first part of a word or number that the line's end divides."""
_LEADER = re.compile(r"[.\u2026_]{4,}")
"""Dots between an entry of a table of contents and its page."""
_PRIVATE = re.compile(r"[\ue000-\uf8ff]")
"""Characters of symbol fonts, mostly bullets."""
_LONGEST_PAGE_NUMBER = 4
"""Digits."""
_LONGEST_LIST = 3
"""Rows of two cells that are more often labels with values than names with rows, where fonts do not tell."""
_SAME_EDGE = 5.0
"""Points between the edges of a table's parts on two pages."""
_XFA_FORMS = (pypdfium2.raw.FORMTYPE_XFA_FULL, pypdfium2.raw.FORMTYPE_XFA_FOREGROUND)
_SCAN_AREA = 0.3
"""Share of a page: a page without text and with images on more of it is a scan."""
_MOST_NOTED = 20
"""Pages that a loss names."""


@dataclass(slots=True)
class _Page:
    """A page that was read. ``_remove_running`` and ``_join_divided`` change its blocks in place."""

    number: int
    """From 1."""
    height: float = 0.0
    """In points."""
    blocks: list[Block] = field(default_factory=list[Block])
    is_unread: bool = True
    """Whether it is a scan, or damaged."""
    watermark: str = ""
    has_fields: bool = False
    lost: Counter[str] = field(default_factory=Counter[str])
    """Words that are not in the blocks, by what they are."""


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
        pages = [_page(document, index, ocr) for index in range(len(document))]
        if document.get_formtype() in _XFA_FORMS and not any(page.has_fields for page in pages):
            problem = "it is a dynamic form (XFA), whose fields only some programs show"
            raise DocumentInvalidError(f"{problem}. Print it to PDF, and add that.")
    finally:
        document.close()
    losses = (*_unread(pages), *(_loss(page, what) for page in pages for what in page.lost))
    if not any(page.blocks for page in pages):
        # For the error: unreadable fonts come before scans, and scans before no text at all.
        reason = "its letters are not those that its fonts show" if any(page.lost for page in pages) else ""
        reason = reason or ("it has no text: its pages are scans" if losses else "it has no text")
        raise DocumentInvalidError(f"{reason}. Say ocr = true in its source, or add the text.")
    running = _remove_running(pages)
    _join_divided(pages)
    writer = _Writer(pages)
    blocks = tuple(block for page in pages for block in writer.page(page))
    title = model.title_of(writer.title) or metadata
    banner = _banner([*(page.watermark for page in pages), *running], f"{title} {metadata}")
    return model.Page(blocks, title, banner, losses)


def _opened(raw: bytes) -> Any:
    """Return a PdfDocument of pypdfium2, which the caller closes. Raises DocumentInvalidError."""
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


def _page(document: Any, index: int, ocr: Sequence[str]) -> _Page:
    """Return a page (``index`` from 0) as it is read; an unread one without blocks where it is damaged.

    With ``ocr`` a scan is recognised, and a page of which most words are in unreadable letters: what is
    recognised takes the place of the blocks.
    """
    try:
        page = document[index]
    except pypdfium2.PdfiumError:
        return _Page(index + 1)
    try:
        width, height = page.get_size()
        text = read_page(page, document.formenv)
        blocks = [block for content in text.contents for block in page_blocks(content)]
        is_scan = not blocks and _image_area(page) > _SCAN_AREA * width * height
        is_unreadable = text.lost[UNREADABLE] > sum(len(content.words) for content in text.contents)
        if ocr and (is_scan or is_unreadable) and (read := scan_blocks(page, ocr)):
            blocks, is_scan = read, False
            del text.lost[UNREADABLE]
    finally:
        page.close()
    return _Page(index + 1, height, blocks, is_scan, text.watermark, text.has_fields, text.lost)


def _image_area(page: Any) -> float:
    """Return the area of the page's largest image, in square points."""
    images = page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE])
    bounds = (image.get_bounds() for image in images)
    return max(((right - left) * (top - bottom) for left, bottom, right, top in bounds), default=0.0)


def _loss(page: _Page, what: str) -> model.Loss:
    """Return a kind of ``page.lost`` as a loss."""
    return model.Loss(what, str(model.Place("page", page.number)), page.lost[what])


def _unread(pages: Sequence[_Page]) -> tuple[model.Loss, ...]:
    """Return one loss with the numbers of all unread pages; none without any."""
    scans = [page.number for page in pages if page.is_unread]
    more = f" and {len(scans) - _MOST_NOTED:,} more" if len(scans) > _MOST_NOTED else ""
    numbers = ", ".join(map(str, scans[:_MOST_NOTED]))
    return (model.Loss(f"pages without text (scans): {numbers}{more}"),) if scans else ()


# --- running headers and footers --------------------------------------------------------------------------
_Key = tuple[str, int | None, int]
"""The text of a line with "#" in place of the page's number, how far that number is from the page's place in
the file (None without one), and the size of the letters. "Page 7 of 12" on the fifth page has the keys
("Page # of 12", 2, 9), ("Page 7 of #", 7, 9) and ("Page 7 of 12", None, 9)."""


def _remove_running(pages: Sequence[_Page]) -> list[str]:
    """Remove the lines in the margins that pages have in common, and return the text of each. Lines that
    differ in another number than the page's ("Table 1", "Table 2") are content.

    Of the keys of a line the one counts that most pages have (``by_id``, by the line's identity).
    """
    margin = [(page.number, line, _keys(page, line)) for page in pages for line in _margin(page)]
    # On how many pages a key is: twice on one page counts once.
    counts = Counter(key for _, key in {(number, key) for number, _, keys in margin for key in keys})
    by_id = {id(line): max(keys, key=counts.__getitem__) for _, line, keys in margin}
    # How many texts are equal but for their numbers.
    variants = Counter(_DIGITS.sub("#", text) for text in {text for text, _, _ in by_id.values()})
    filled = sum(bool(page.blocks) for page in pages)
    need = max(2, min(_FEWEST_PAGES, filled), _REPEATED * filled)
    running = {
        key: None for key in by_id.values() if counts[key] >= need and variants[_DIGITS.sub("#", key[0])] == 1
    }
    for page in pages:
        for block in page.blocks:
            if isinstance(block, Paragraph):
                block.lines = [line for line in block.lines if by_id.get(id(line)) not in running]
        page.blocks = [block for block in page.blocks if isinstance(block, Grid) or block.lines]
    return [text for text, _, _ in running]


def _margin(page: _Page) -> Iterator[Line]:
    """Yield the lines at the top and bottom of a page."""
    for line in _lines(page):
        if line.box.bottom < _MARGIN * page.height or line.box.top > (1 - _MARGIN) * page.height:
            yield line


def _keys(page: _Page, line: Line) -> list[_Key]:
    """Return what the line may have in common with those of other pages, by each number that may be the
    page's."""
    text, size = line.text, round(line.size)
    numbers = (match for match in _DIGITS.finditer(text) if len(match[0]) <= _LONGEST_PAGE_NUMBER)
    keys: list[_Key] = [
        (f"{text[: match.start()]}#{text[match.end() :]}", int(match[0]) - page.number, size)
        for match in numbers
    ]
    return [*keys, (text, None, size)]


def _banner(texts: Iterable[str], titles: str) -> str:
    """Return the texts that say more than a page's number and the document's titles, in one line:
    "DRAFT; Edition of May"."""
    known = set(_WORDS.findall(titles.casefold()))
    shown = (" ".join(_PAGE_NUMBER.sub(" ", unmarked(text)).split()).strip(_SEPARATORS) for text in texts)
    more = (
        text for text in shown if any(map(str.isalpha, text)) and set(_WORDS.findall(text.casefold())) - known
    )
    return "; ".join(dict.fromkeys(more))


def _lines(page: _Page) -> Iterator[Line]:
    """Yield the lines of a page's paragraphs; those of tables are left out."""
    for block in page.blocks:
        if isinstance(block, Paragraph):
            yield from block.lines


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
    is_open = is_open and not NUMBER.match(block.lines[0].text)
    return is_open and block.lines[0].text[:1].islower() and round(before.size) == round(block.size) > 0


# --- blocks -----------------------------------------------------------------------------------------------
class _Writer:
    """Writes the pages one after the other; remembers the section, and the table, that goes on from page to
    page. So ``page`` is called for each page once, in order, and ``title`` is read at the end."""

    def __init__(self, pages: Sequence[_Page]) -> None:
        """``pages``: all, for the sizes of letters and the words of the whole document."""
        self._body = _body_size(pages)
        lines = [line for page in pages for line in _lines(page)]
        self._vocabulary = {word for line in lines for word in _WORDS.findall(line.text)}
        """All words of paragraphs, with their hyphens."""
        bold = sum(len(line.text) for line in lines if line.is_bold)
        self._is_bold = 2 * bold > sum(len(line.text) for line in lines)
        """Whether most of the text is bold: then bold text is no heading."""
        paragraphs = [block for page in pages for block in page.blocks if isinstance(block, Paragraph)]
        headings = filter(self._is_heading, filter(self._is_larger, paragraphs))
        sizes = sorted({round(block.size) for block in headings}, reverse=True)
        self._levels = {size: level for level, size in enumerate(sizes, start=_HIGHEST_HEADING)}
        """Level of a heading by the size of its letters."""
        self._section = ""
        """Text of the last heading."""
        self._open_table: Grid | None = None
        """The last block with the rows of its names alone, if it is a table with names of columns."""
        self.title: str | None = None
        """The largest heading of the first page that has one."""

    def page(self, page: _Page) -> list[model.Block]:
        """Return the page under a heading with its number, and with the section that goes on in it."""
        if not page.blocks:
            return []
        begins = self._level(page.blocks[0]) is not None
        name = f"Page {page.number}" + (f": {self._section}" if self._section and not begins else "")
        place = model.Place("page", page.number)
        result: list[model.Block] = [model.Heading(_HIGHEST_HEADING - 1, model.plain(name), place)]
        for block in page.blocks:
            for new in self._blocks(block):
                last = result[-1]  # items that follow each other become one list
                if (
                    isinstance(new, model.List)
                    and isinstance(last, model.List)
                    and new.is_ordered == last.is_ordered
                ):
                    result[-1] = replace(last, items=(*last.items, *new.items))
                else:
                    result.append(new)
        return result

    def _blocks(self, block: Block) -> list[model.Block]:
        """Return a table, a heading, a list of one item, or a paragraph."""
        if isinstance(block, Grid):
            return self._table(block)
        self._open_table = None
        text = self._text(block)
        level = self._level(block)
        if level is not None:
            self._section = unmarked(text)
            self.title = self.title or self._section
            return [model.Heading(min(level, 6), runs_of(text))]
        if marker := BULLET.match(text) or NUMBER.match(text):
            shown = _PRIVATE.sub("\u2022", marker[0].strip())
            item = model.Item(shown, (model.Paragraph(runs_of(text[marker.end() :])),))
            return [model.List((item,), is_ordered=shown[-1] in ".)")]
        return [model.Paragraph(runs_of(text))]

    def _table(self, block: Grid) -> list[model.Block]:
        """Return the table; one that goes on from the page before gets the names of its columns again.

        Short tables of two columns, and tables with merged cells in their first rows, are forms: no row of
        theirs has names, unless fonts say so (``header_rows``).
        """
        before, first = self._open_table, [row for row in block.rows if len(row) > 1][:2]
        is_short = _width(block) == 2 and len(block.rows) <= _LONGEST_LIST
        is_form = is_short or any(cell.columns > 1 for row in first for cell in row)
        is_form = is_form and block.header_rows is None
        result: list[model.Block] = [model.Table(tuple(map(tuple, block.rows)))]
        result = result if is_form else table_blocks(block.rows, header_rows=block.header_rows or 0)
        self._open_table = None
        match result[-1]:
            case model.Table(rows=rows, header_rows=names) if names:
                self._open_table = replace(block, rows=[list(row) for row in rows[:names]])
            case model.Table(rows=rows) if before is not None and _goes_on(before, block):
                result[-1] = model.Table((*map(tuple, before.rows), *rows), len(before.rows))
                self._open_table = before
            case _:
                pass
        return result

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
        """Return both without the hyphen ("exam-" and "ple" are "example"), unless the document has only the
        hyphenated word elsewhere ("follow-" and "up" are "follow-up")."""
        first, second = _WORDS.findall(text)[-1:], _WORDS.findall(following)[:1]
        with_hyphen, without = "-".join(first + second), "".join(first + second)
        keeps = with_hyphen in self._vocabulary and without not in self._vocabulary
        return f"{text[:-1]}-{following}" if keeps else text[:-1] + following


def _body_size(pages: Sequence[_Page]) -> float:
    """Return the size of most characters, in points, to half a point."""
    sizes = Counter[float]()
    for block in (block for page in pages for block in page.blocks):
        if isinstance(block, Grid):
            sizes[round(block.size * 2) / 2] += block.letters
        else:
            for line in block.lines:
                sizes[round(line.size * 2) / 2] += len(line.text) if line.size else 0  # unknown of a scan
    return sizes.most_common(1)[0][0] if sizes else 0.0


def _goes_on(before: Grid, block: Grid) -> bool:
    """Return whether a table has the columns of the one before."""
    edges = (before.box.left - block.box.left, before.box.right - block.box.right)
    return _width(before) == _width(block) and all(abs(edge) < _SAME_EDGE for edge in edges)


def _width(grid: Grid) -> int:
    """Return the number of columns."""
    return sum(cell.columns for cell in grid.rows[0])


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


def scan_blocks(page: Any, languages: Sequence[str]) -> list[Block]:
    """Return the paragraphs of a pypdfium2 page that is a picture; none if there is no text in it.

    The program tesseract is a child of the parsing process, with its limits of memory, file size and CPU
    time.
    Raises DocumentInvalidError where tesseract or one of the languages is not installed.
    """
    width, height = page.get_size()
    middle = Box(0.0, height / 2, width, height / 2)  # in no margin: no line of it is a running header
    return [
        Paragraph([Line(line, middle, is_bold=False, size=0.0, place=0) for line in lines])
        for block in _recognised(page, languages).split("\n\n")
        if (lines := [" ".join(line.split()) for line in block.splitlines() if line.strip()])
    ]


def _recognised(page: Any, languages: Sequence[str]) -> str:
    """Return the text that tesseract reads, paragraphs apart by empty lines; "" where it takes too long."""
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
        result = _run(command, picture=_picture(page))
    except subprocess.TimeoutExpired:
        return ""
    if result.returncode != 0:
        problem = f"tesseract ended on a scanned page (status {result.returncode})"
        raise DocumentInvalidError(f"{problem}. Scan it again with fewer dots, or add its text.")
    return result.stdout.decode(errors="replace")


@cache
def _installed(program: str) -> frozenset[str]:
    """Return the languages that tesseract can read. It passes over one that it lacks without an error."""
    _, *names = _run([program, "--list-langs"]).stdout.decode().split("\n")  # the first line is a heading
    return frozenset(name.strip() for name in names)


def _run(command: Sequence[str], *, picture: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run tesseract with a picture as its input. Raises TimeoutExpired after ``PAGE_LIMIT_S``."""
    one_thread = os.environ | {"OMP_THREAD_LIMIT": "1"}  # each reserves address space
    return subprocess.run(
        command, input=picture, capture_output=True, timeout=PAGE_LIMIT_S, env=one_thread, check=False
    )


def _picture(page: Any) -> bytes:
    """Return the page in shades of grey, as a portable graymap (PGM)."""
    width, height = page.get_size()
    dots = _DOTS_PER_INCH / 72
    scale = min(dots, (_MOST_PIXELS / (width * height)) ** 0.5)
    bitmap = page.render(scale=scale, grayscale=True)
    # A row in memory is longer than the page is wide.
    rows, stride = memoryview(bytes(bitmap.buffer)), bitmap.stride
    lines = (rows[row * stride : row * stride + bitmap.width] for row in range(bitmap.height))
    return b"".join((b"P5 %d %d 255\n" % (bitmap.width, bitmap.height), *lines))
