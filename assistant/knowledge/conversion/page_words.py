"""Reads the words and the ruling lines of a PDF page by pdfium, in upright coordinates.

Coordinates are points (1/72 inch) from the top left of the page as it is read: x to the right, y downwards.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from math import hypot, pi
from typing import Any

pdfium: Any = import_module("pypdfium2.raw")
"""pdfium's functions by ctypes, without types."""
_WORD = re.compile(r"[^\s\x00-\x1f\ufffe\uffff]+[\x02\ufffe\u00ad]?")
_SOFT_HYPHEN = re.compile(r"[\x02\ufffe\u00ad]$")
SAME_LINE = 0.4
"""Of a line's height: how far the middle of a word on it may lie from the line's."""
_THICKEST_RULE = 4.0
"""Points. A filled rectangle that is thinner is a line."""
_MOST_OBJECTS = 20_000
"""Graphics objects of a page that are looked at: a drawing has more, a table never."""
_SAMPLED_ANGLES = 50
_DESCENT = 0.2
"""Of a font's size: what is below the baseline, in most Latin fonts."""
_DEEPEST_FORM = 4

_Direction = tuple[int, int]
"""Where a line of text runs to, in the file's coordinates: (1, 0) to the right, (0, 1) upwards."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; y runs downwards."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def corners(self) -> tuple[tuple[float, float], tuple[float, float]]:
        return (self.left, self.top), (self.right, self.bottom)

    @property
    def middle(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


@dataclass(slots=True)
class Word:
    text: str
    box: Box
    size: float
    """Of its font, in points; 0 in another direction than most: a stamp, or labels of a drawing."""
    is_bold: bool = False
    place: int = 0
    """In the file, which has its words in reading order."""
    direction: _Direction = (1, 0)
    weight: int = 0
    """Of its font."""


@dataclass(frozen=True, slots=True)
class PageContent:
    """The words of a page that run in one direction, and the ruling lines in the same coordinates."""

    words: list[Word]
    rules: list[Box]


_BOLD_RATIO = 1.15
"""Of a font's weight to the page's most frequent: where a font does not say its weight, pdfium derives one
from its stems: regular is 225 to 425, bold 455 to 700. Regular and italic differ by less than 1.1."""


def page_contents(page: Any) -> Iterator[PageContent]:
    """Yield the page's words by their direction, the most frequent direction first, each made upright.

    ``page`` is a PdfPage of pypdfium2. Only the first has ruling lines; the words of the others have size 0.
    """
    text_page = page.get_textpage()
    rotation = _upright_rotation(text_page)
    if rotation not in (None, page.get_rotation()):  # pdfium splits the words of a page on its side or head
        text_page.close()
        page.set_rotation(rotation)
        text_page = page.get_textpage()
    crop = Box(*page.get_cropbox())
    words = list(_words(text_page.raw, crop))
    text_page.close()
    directions, weights = Counter[_Direction](), Counter[int]()
    for word in words:
        directions[word.direction] += len(word.text)
        weights[word.weight] += len(word.text)
    most_regular = _BOLD_RATIO * max(weights, key=weights.__getitem__, default=0)
    for number, (direction, _) in enumerate(directions.most_common()):
        upright = [word for word in words if word.direction == direction]
        for word in upright:
            word.size = 0.0 if number else word.size
            word.is_bold = not number and word.weight > max(most_regular, 1)
        rules = [] if number else [_placed(rule, direction, crop) for rule in _rules(page)]
        yield PageContent(upright, rules)


def text_rows(words: Iterable[Word]) -> list[list[Word]]:
    """Return the words of equal height on the page, from top to bottom, each row from left to right."""
    rows: list[list[Word]] = []
    for word in sorted(words, key=lambda word: word.box.middle[1]):
        first = rows[-1][0].box if rows else None
        if first is None or word.box.middle[1] - first.middle[1] > SAME_LINE * first.height:
            rows.append([])
        rows[-1].append(word)
    return [sorted(row, key=lambda word: word.box.left) for row in rows]


def _upright_rotation(text_page: Any) -> int | None:
    """Return the rotation of the page, in degrees, that makes most of its text upright; None without text."""
    count: int = pdfium.FPDFText_CountChars(text_page)
    places = range(0, count, max(1, count // _SAMPLED_ANGLES))
    angles = [pdfium.FPDFText_GetCharAngle(text_page, index) for index in places]  # clockwise; -1 for none
    quarters = Counter(round(angle / (pi / 2)) % 4 for angle in angles if angle >= 0)
    return (4 - quarters.most_common(1)[0][0]) % 4 * 90 if quarters else None


def _placed(box: Box, direction: _Direction, crop: Box) -> Box:
    """Return a box of the file's coordinates (y upwards) as it lies on the page with this text upright."""
    a, b = direction
    turned, paper = (
        _between(*((a * x + b * y, b * x - a * y) for x, y in upward.corners)) for upward in (box, crop)
    )
    left, top = turned.left - paper.left, turned.top - paper.top
    return Box(left, top, turned.right - paper.left, turned.bottom - paper.top)


def around(boxes: Iterable[Box]) -> Box:
    """Return the smallest box that holds all boxes."""
    return _between(*(corner for box in boxes for corner in box.corners))


def _between(*points: tuple[float, float]) -> Box:
    """Return the smallest box that holds all points."""
    xs, ys = zip(*points or [(0.0, 0.0)], strict=True)
    return Box(min(xs), min(ys), max(xs), max(ys))


# --- words ------------------------------------------------------------------------------------------------
def _words(text_page: Any, crop: Box) -> Iterator[Word]:
    """Yield each word in the file's order, as high as its font: fonts tell sizes of their letters that are up
    to six times too high."""
    direction: _Direction = (1, 0)
    characters = _characters(text_page, pdfium.FPDFText_CountChars(text_page))
    for place, match in enumerate(_WORD.finditer(characters)):
        start, end = match.span()
        first, last = _character(text_page, start), _character(text_page, end - 1)
        if end - start > 1:
            direction = _direction(first, last) or direction
        size = _font_size(text_page, start)
        box = _placed(around([first, last]), direction, crop)
        low = _placed(_baseline(text_page, start), direction, crop).top + _DESCENT * size
        yield Word(
            _SOFT_HYPHEN.sub("\u00ad", match[0]),
            Box(box.left, low - size, box.right, low),
            size,
            place=place,
            direction=direction,
            weight=pdfium.FPDFText_GetFontWeight(text_page, start),
        )


def _font_size(text_page: Any, index: int) -> float:
    """Return the size in points as it is shown: a matrix may scale the font's own."""
    matrix = pdfium.FS_MATRIX()
    pdfium.FPDFText_GetMatrix(text_page, index, matrix)
    return pdfium.FPDFText_GetFontSize(text_page, index) * hypot(matrix.c, matrix.d)


def _characters(text_page: Any, length: int) -> str:
    """Return one character for each index of the page: pdfium's text, or its characters one by one where
    the text has another length."""
    buffer = (ctypes.c_ushort * (length + 1))()
    pdfium.FPDFText_GetText(text_page, 0, length, buffer)
    text = bytes(buffer)[: 2 * length].decode("utf-16-le", "replace")
    if len(text) == length and "\0" not in text:
        return text
    codes = (pdfium.FPDFText_GetUnicode(text_page, index) for index in range(length))
    return "".join(chr(code) if code and not 0xD800 <= code < 0xE000 else " " for code in codes)


def _baseline(text_page: Any, index: int) -> Box:
    x, y = ctypes.c_double(), ctypes.c_double()
    pdfium.FPDFText_GetCharOrigin(text_page, index, x, y)
    return Box(x.value, y.value, x.value, y.value)


def _character(text_page: Any, index: int) -> Box:
    """Return a character's box, with the space that it takes on the line."""
    found = pdfium.FS_RECTF()
    pdfium.FPDFText_GetLooseCharBox(text_page, index, found)
    return _between((found.left, found.bottom), (found.right, found.top))


def _direction(first: Box, last: Box) -> _Direction | None:
    """Return where a word runs to; None if its ends are at one place."""
    (x, y), (to_x, to_y) = first.middle, last.middle
    across, up = to_x - x, to_y - y
    if abs(across) + abs(up) < 1:
        return None
    return (1 if across > 0 else -1, 0) if abs(across) >= abs(up) else (0, 1 if up > 0 else -1)


# --- ruling lines -----------------------------------------------------------------------------------------
def _rules(page: Any) -> Iterator[Box]:
    """Yield the horizontal and vertical lines, in the file's coordinates; a rectangle has four."""
    paths = page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_PATH], max_depth=_DEEPEST_FORM)
    for path in islice(paths, _MOST_OBJECTS):
        form, matrix = path.container, path.get_matrix()
        while form is not None:
            form, matrix = form.container, matrix.multiply(form.get_matrix())
        yield from _path_rules(path.raw, matrix)


def _path_rules(path: Any, matrix: Any) -> Iterator[Box]:
    """Yield the straight lines of a path along an axis; a thin rectangle is one line."""
    x, y = ctypes.c_float(), ctypes.c_float()
    points: list[tuple[float, float]] = []
    lines: list[Box] = []
    start = 0
    for index in range(min(pdfium.FPDFPath_CountSegments(path), _MOST_OBJECTS)):
        segment = pdfium.FPDFPath_GetPathSegment(path, index)
        pdfium.FPDFPathSegment_GetPoint(segment, x, y)
        points.append(matrix.on_point(x.value, y.value))
        kind = pdfium.FPDFPathSegment_GetType(segment)
        if kind == pdfium.FPDF_SEGMENT_MOVETO:
            start = index
        elif kind == pdfium.FPDF_SEGMENT_LINETO:
            lines.append(_between(*points[-2:]))
        if pdfium.FPDFPathSegment_GetClose(segment):
            lines.append(_between(points[-1], points[start]))
    around = _between(*points)
    if min(around.right - around.left, around.height) < _THICKEST_RULE:
        yield around
    else:
        yield from (line for line in lines if min(line.right - line.left, line.height) < 1)
