"""Reads the words and the ruling lines of a PDF page by pdfium, in upright coordinates.

Coordinates are points (1/72 inch) from the top left of the page as it is read: x to the right, y downwards.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from math import hypot, pi
from typing import Any, NamedTuple

pdfium: Any = import_module("pypdfium2.raw")
"""pdfium's functions by ctypes, without types."""
_WORD = re.compile(r"[^\s\x00-\x1f\ufffe\uffff]+[\x02\ufffe\u00ad]?")
_SOFT_HYPHEN = re.compile(r"[\x02\ufffe\u00ad]$")
_WIDEST_CHARACTER = 1.4
"""Mean width of a word's characters by their height; a wider word has columns inside."""
_THICKEST_RULE = 4.0
"""Points. A filled rectangle that is thinner is a line."""
_MOST_OBJECTS = 20_000
"""Graphics objects of a page that are looked at: a drawing has more, a table never."""
_SAMPLED_ANGLES = 50
_DEEPEST_FORM = 4

_Matrix = tuple[float, float, float, float, float, float]
_IDENTITY: _Matrix = (1, 0, 0, 1, 0, 0)
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
    def middle(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    box: Box
    size: float
    """Of its font, in points."""
    is_bold: bool


@dataclass(frozen=True, slots=True)
class PageContent:
    """The words of a page that run in one direction, and the ruling lines in the same coordinates."""

    words: list[Word]
    rules: list[Box]
    height: float
    """Of the page, turned so that these words are upright."""


class _RawWord(NamedTuple):
    text: str
    box: Box
    """In the file's coordinates: y upwards, top < bottom."""
    size: float
    weight: int
    direction: _Direction


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
    raw_words = list(_words(text_page.raw))
    text_page.close()
    directions, weights = Counter[_Direction](), Counter[int]()
    for word in raw_words:
        directions[word.direction] += len(word.text)
        weights[word.weight] += len(word.text)
    most_regular = _BOLD_RATIO * max(weights, key=weights.__getitem__, default=0)
    for number, (direction, _) in enumerate(directions.most_common()):
        paper = _turned(Box(*page.get_cropbox()), direction)
        words = [
            Word(
                word.text,
                _placed(word.box, direction, paper),
                # of another direction: a stamp along the margin, or labels of a drawing
                size=0.0 if number else word.size,
                is_bold=not number and word.weight > max(most_regular, 1),
            )
            for word in raw_words
            if word.direction == direction
        ]
        rules = [] if number else [_placed(rule, direction, paper) for rule in _rules(page.raw)]
        yield PageContent(words, rules, paper.height)


def _upright_rotation(text_page: Any) -> int | None:
    """Return the rotation of the page, in degrees, that makes most of its text upright; None without text."""
    count: int = pdfium.FPDFText_CountChars(text_page)
    places = range(0, count, max(1, count // _SAMPLED_ANGLES))
    angles = [pdfium.FPDFText_GetCharAngle(text_page, index) for index in places]  # clockwise; -1 for none
    quarters = Counter(round(angle / (pi / 2)) % 4 for angle in angles if angle >= 0)
    return (4 - quarters.most_common(1)[0][0]) % 4 * 90 if quarters else None


def _placed(box: Box, direction: _Direction, paper: Box) -> Box:
    """Return a box of the file's coordinates as it lies on the turned paper."""
    turned = _turned(box, direction)
    x, y = paper.left, paper.top
    return Box(turned.left - x, turned.top - y, turned.right - x, turned.bottom - y)


def _turned(box: Box, direction: _Direction) -> Box:
    """Return a box of the file's coordinates (y upwards) turned so that text of the direction is upright."""
    left, low, right, high = box.left, box.top, box.right, box.bottom
    match direction:
        case (0, 1):
            return Box(low, left, high, right)
        case (0, -1):
            return Box(-high, -right, -low, -left)
        case (-1, 0):
            return Box(-right, low, -left, high)
        case _:
            return Box(left, -high, right, -low)


# --- words ------------------------------------------------------------------------------------------------
def _words(text_page: Any) -> Iterator[_RawWord]:
    """Yield each word in the file's order."""
    length = pdfium.FPDFText_CountChars(text_page)
    direction: _Direction = (1, 0)
    for match in _WORD.finditer(_characters(text_page, length)):
        for start, end, first, last in _pieces(text_page, match.start(), match.end()):
            direction = _direction(first, last) or direction
            text = _SOFT_HYPHEN.sub("\u00ad", match[0][start - match.start() : end - match.start()])
            yield _RawWord(
                text,
                Box(
                    min(first.left, last.left),
                    min(first.top, last.top),
                    max(first.right, last.right),
                    max(first.bottom, last.bottom),
                ),
                _font_size(text_page, start),
                pdfium.FPDFText_GetFontWeight(text_page, start),
                direction,
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


def _pieces(text_page: Any, start: int, end: int) -> Iterator[tuple[int, int, Box, Box]]:
    """Yield the word's first and end index, and its first and last character's box; of a word with wide gaps,
    those of its pieces."""
    first = _character(text_page, start)
    last = _character(text_page, end - 1) if end - start > 1 else first
    height = max(first.height, 1.0)
    width = max(last.right - first.left, last.bottom - first.top)
    if width > _WIDEST_CHARACTER * height * (end - start):
        boxes = [_character(text_page, index) for index in range(start, end)]
        for place, (box, following) in enumerate(pairwise(boxes), start=start + 1):
            if following.left - box.right > height:
                yield start, place, first, box
                start, first = place, following
    yield start, end, first, last


def _character(text_page: Any, index: int) -> Box:
    """Return a character's box as high as its font, so that letters of one line have one height."""
    rectangle = pdfium.FS_RECTF()
    pdfium.FPDFText_GetLooseCharBox(text_page, index, rectangle)
    low, high = sorted((rectangle.bottom, rectangle.top))
    return Box(min(rectangle.left, rectangle.right), low, max(rectangle.left, rectangle.right), high)


def _direction(first: Box, last: Box) -> _Direction | None:
    """Return where a word runs to; None for a single character."""
    (x, y), (to_x, to_y) = first.middle, last.middle
    if first is last or abs(to_x - x) + abs(to_y - y) < 1:
        return None
    if abs(to_x - x) >= abs(to_y - y):
        return (1, 0) if to_x > x else (-1, 0)
    return (0, 1) if to_y > y else (0, -1)


# --- ruling lines -----------------------------------------------------------------------------------------
def _rules(page: Any) -> Iterator[Box]:
    """Yield the horizontal and vertical lines, in the file's coordinates; a rectangle has four."""
    count = min(pdfium.FPDFPage_CountObjects(page), _MOST_OBJECTS)
    for index in range(count):
        yield from _object_rules(pdfium.FPDFPage_GetObject(page, index), _IDENTITY, 0)


def _object_rules(item: Any, outer: _Matrix, depth: int) -> Iterator[Box]:
    kind = pdfium.FPDFPageObj_GetType(item)
    if kind == pdfium.FPDF_PAGEOBJ_PATH:
        yield from _path_rules(item, _product(_matrix(item), outer))
    elif kind == pdfium.FPDF_PAGEOBJ_FORM and depth < _DEEPEST_FORM:
        inner = _product(_matrix(item), outer)
        for index in range(min(pdfium.FPDFFormObj_CountObjects(item), _MOST_OBJECTS)):
            yield from _object_rules(pdfium.FPDFFormObj_GetObject(item, index), inner, depth + 1)


def _path_rules(path: Any, matrix: _Matrix) -> Iterator[Box]:
    """Yield the straight lines of a path along an axis; a thin rectangle is one line."""
    x, y = ctypes.c_float(), ctypes.c_float()
    points: list[tuple[float, float]] = []
    lines: list[Box] = []
    start = 0
    for index in range(min(pdfium.FPDFPath_CountSegments(path), _MOST_OBJECTS)):
        segment = pdfium.FPDFPath_GetPathSegment(path, index)
        pdfium.FPDFPathSegment_GetPoint(segment, x, y)
        a, b, c, d, e, f = matrix
        point = a * x.value + c * y.value + e, b * x.value + d * y.value + f
        kind = pdfium.FPDFPathSegment_GetType(segment)
        if kind == pdfium.FPDF_SEGMENT_LINETO and points:
            lines.append(_between(points[-1], point))
        points.append(point)
        if kind == pdfium.FPDF_SEGMENT_MOVETO:
            start = len(points) - 1
        if pdfium.FPDFPathSegment_GetClose(segment):
            lines.append(_between(point, points[start]))
    if not points:
        return
    xs, ys = [px for px, _ in points], [py for _, py in points]
    around = Box(min(xs), min(ys), max(xs), max(ys))
    if min(around.right - around.left, around.height) < _THICKEST_RULE:
        yield around
    else:
        yield from (line for line in lines if min(line.right - line.left, line.height) < 1)


def _between(start: tuple[float, float], end: tuple[float, float]) -> Box:
    return Box(min(start[0], end[0]), min(start[1], end[1]), max(start[0], end[0]), max(start[1], end[1]))


def _matrix(item: Any) -> _Matrix:
    matrix = pdfium.FS_MATRIX()
    pdfium.FPDFPageObj_GetMatrix(item, matrix)
    return (matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f)


def _product(inner: _Matrix, outer: _Matrix) -> _Matrix:
    """Return the matrix that applies ``inner`` first."""
    a, b, c, d, e, f = inner
    oa, ob, oc, od, oe, of = outer
    return (
        a * oa + b * oc,
        a * ob + b * od,
        c * oa + d * oc,
        c * ob + d * od,
        e * oa + f * oc + oe,
        e * ob + f * od + of,
    )
