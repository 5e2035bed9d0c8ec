"""Reads what a PDF page shows by pdfium, in upright coordinates: words, ruling lines and fields of forms.

``read_page`` is what others use. Its steps:

1. ``_Reader.words`` yields words, or parts of words that are drawn apart, without those that are not seen.
2. ``_with_shifts`` joins parts, and marks what is raised or lowered: "mm" and "2" become one word, with
   ``RAISED`` before the "2" and ``RUN_END`` after it.
3. Words of fonts whose letters are not what they show are left out (``_is_unreadable``).
4. Words are sorted by direction, each direction upright; ruling lines and annotations are read.
5. ``_Reader.strike`` marks struck letters, ``_with_fields`` adds the values of a form.

Two systems of coordinates are used, both in points (1/72 inch). *The file's* run upwards, as pdfium gives
them. *The page's* run from the top left of the page as it is read, x to the right, y downwards (``_placed``).
"""

from __future__ import annotations

import ctypes
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from itertools import groupby, islice, pairwise
from math import hypot, pi
from typing import Any

from assistant.documents.page import Run, Runs, Shift
from assistant.documents.parsing.text import shown_address
from assistant.text.language import tells_language
from assistant.text.marks import LOWERED, RAISED, RUN_END, STRUCK

pdfium: Any = import_module("pypdfium2.raw")
"""pdfium's functions by ctypes, without types."""
_WORD = re.compile(r"[^\s\x00\x02\ufdd0-\ufdef\ufffe\uffff]+[\x02\ufffe\u00ad]?")
"""Anything but white space and noncharacters, with a hyphen of the line's end."""
_CONTROL = re.compile(r"[\x01-\x1f]")
_SOFT_HYPHEN = re.compile(r"[\x02\ufffe\u00ad]$")
"""A hyphen that the line's end made: pdfium gives U+0002 or U+FFFE for it."""
_RUNS = {
    RAISED: Run("", Shift.RAISED),
    LOWERED: Run("", Shift.LOWERED),
    STRUCK: Run("", is_struck=True),
}
_PART = re.compile(f"([{RAISED}-{STRUCK}])?([^{RAISED}-{RUN_END}]+){RUN_END}?")
"""A part of a text: the mark before it (group 1, empty without one) and its letters (group 2)."""
SAME_LINE = 0.4
"""Share of a line's height: how far the middle of a word on it may lie from the line's."""
_THICKEST_RULE = 4.0
"""Points. A filled rectangle that is thinner is a line."""
_MOST_OBJECTS = 20_000
"""Graphics objects of a page that are looked at: a drawing has more, a table never."""
_SAMPLED_ANGLES = 50
"""Characters of a page whose angles are read to know which side is up."""
_DESCENT = 0.2
"""Share of a font's size: what is below the baseline, in most Latin fonts."""
_DEEPEST_FORM = 4
"""Levels of graphics objects in others (form XObjects) that are looked at."""
_RISE = (0.15, 0.75)
"""Share of a font's size: how far the baseline of a raised character is above the line's; a lowered one half
as far below. An initial that is as high as several lines has its baseline farther away."""
_SMALL = 0.85
"""Share of the font's size: a raised character that is a word of its own is smaller."""
_SMALLEST = 0.4
"""Share of the font's size: a raised character is not smaller."""
_NEAR = 0.6
"""Share of the font's size: from a raised character to its word."""
_TOUCHING = 0.15
"""Share of the font's size: a raised character that is nearer to its word is a part of it."""
_CUT = 0.05
"""Share of the font's size: words that are nearer are one that pdfium divides, after an "r" for example."""
_MIDDLE = 0.15
"""Share of a word's height: how far a line that strikes it may be from its middle."""
_LARGE = 24.0
"""Points: letters across the page's direction that are as large are a watermark."""
_SLANT = 0.1
"""Share of the longer side of a letter's matrix: text that is turned by more runs across."""
_WHITE = 250
"""Of 255: a color whose parts are all greater is not seen on white paper."""
_MOST_LAYERS = 20
"""Layers of a page that are looked at: a drawing has hundreds, and a picture of it takes a second."""
_COPY_SIZE = 800
"""Dots of the longer side of a page's picture, on which small letters can be seen."""
_ACCENTS = "`\u00b4\u02c6\u02dc\u00a8\u02c7\u02da\u00b8\u02d8\u02d9\u02dd"
_COMBINING = "\u0300\u0301\u0302\u0303\u0308\u030c\u030a\u0327\u0306\u0307\u030b"
"""Accents that stand alone, and those that are a part of a letter."""
_ACCENT = re.compile(f"[{_ACCENTS}]")
_OVER = 1.5
"""Points between the middle of a letter and that of its accent."""
_HIDDEN_ANNOTATION = pdfium.FPDF_ANNOT_FLAG_HIDDEN | pdfium.FPDF_ANNOT_FLAG_NOVIEW
_CHECKED = (pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON)
_PASSWORD_FIELD = 1 << 13
"""Flag of a field (PDF 1.7, table 228, bit 14)."""
UNREADABLE = "words in unreadable letters"
"""Kind of loss; ``pdf.py`` reads a page by tesseract where most words are of it."""
_FEWEST_LETTERS = 30
"""Letters of a font: fewer are not judged."""
_REPEATED = re.compile(r"(\W)\1+")
_FEWEST_SIGNS = 8
"""Different signs; a font of bullets, rules and dots has fewer."""
_Direction = tuple[int, int]
"""Where a line of text runs to, in the file's coordinates: (1, 0) to the right, (0, 1) upwards."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; y runs downwards. In the file's coordinates, in which y runs upwards, ``top`` is the
    lesser y until ``_placed`` turns it."""

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

    def holds(self, point: tuple[float, float]) -> bool:
        return self.left <= point[0] <= self.right and self.top <= point[1] <= self.bottom


@dataclass(slots=True)
class Word:
    """A word of a page, with its place there; changed in place until ``read_page`` returns."""

    text: str
    """With marks around its raised, lowered and struck parts, which ``runs_of`` reads."""
    box: Box
    size: float
    """Size of its font, in points; 0 in another direction than most: a stamp, or labels of a drawing."""
    is_bold: bool = False
    place: float = 0
    """Place in the file, which has its words in reading order."""
    direction: _Direction = (1, 0)
    weight: int = 0
    """Weight of its font as pdfium gives it; compared with the page's most frequent (``_BOLD_RATIO``)."""
    font: int = 0
    """Key of its font: equal for words of one font of this page."""
    start: int = 0
    """Index of its first character among the page's."""
    is_joined: bool = False
    """Whether it is a further part of the word before, in another style."""

    @property
    def baseline(self) -> float:
        """y of the line that its letters stand on."""
        return self.box.bottom - _DESCENT * self.size


@dataclass(frozen=True, slots=True)
class PageContent:
    """The words of a page that run in one direction, and the ruling lines in the same coordinates."""

    words: list[Word]
    rules: list[Box]


@dataclass(slots=True)
class PageText:
    """What ``read_page`` reads of a page."""

    contents: list[PageContent]
    """By their direction, the most frequent direction first, each made upright. Only the first has ruling
    lines; the words of the others have size 0."""
    watermark: str
    """Large letters across the page, and stamps: "DRAFT"; empty without any."""
    has_fields: bool
    """Whether fields of a form, or texts that were typed onto the page, are shown."""
    lost: Counter[str] = field(default_factory=Counter[str])
    """Words that are not in the contents, by what they are."""


def runs_of(marked: str) -> Runs:
    """Return a text with marks as runs: for f"mm{RAISED}2{RUN_END}" "mm", and a raised "2"."""
    parts = _PART.findall(marked)
    return tuple(replace(_RUNS[mark], text=text) if mark else Run(text) for mark, text in parts)


def unmarked(marked: str) -> str:
    """Return a text without its marks: "mm2" for f"mm{RAISED}2{RUN_END}"."""
    return "".join(text for _, text in _PART.findall(marked))


_BOLD_RATIO = 1.15
"""Ratio of a font's weight to the page's most frequent: where a font does not say its weight, pdfium derives
one from its stems: regular is 225 to 425, bold 455 to 700. Regular and italic differ by less than 1.1."""
_REGULAR, _BOLD = 375, 700
"""Weight of a font of which pdfium knows none (0), as of PDF's 14 standard fonts, and of one that is bold by
its name: the stems that Word and LibreOffice write are the same for both."""
_BOLD_NAME = re.compile(rb"bold|[-,](?:black|heavy|demi)", re.I)
_LONGEST_ADDRESS = 2_000
"""Bytes of a link's address that are read; of a longer one nothing is."""
_LONGEST_FONT_NAME = 128
"""Bytes, as PDF 1.7 allows for a name (annex C)."""


def read_page(page: Any, form: Any = None) -> PageText:
    """Return what a PdfPage of pypdfium2 shows; ``form`` is the handle of its document's form. It may change
    the page's rotation, so that most of its text is upright."""
    # 1. Words.
    text_page = page.get_textpage()
    rotation = _upright_rotation(text_page)
    if rotation not in (None, page.get_rotation()):  # pdfium splits the words of a page on its side or head
        text_page.close()
        page.set_rotation(rotation)
        text_page = page.get_textpage()
    crop = Box(*page.get_bbox())
    reader = _Reader(page, text_page.raw, crop)
    words = _with_shifts(reader.words())
    # 2. Leave out fonts that cannot be read.
    fonts = {
        font: [word.text for word in words if word.font == font] for font in {word.font for word in words}
    }
    unreadable = {font for font, texts in fonts.items() if _is_unreadable(texts)}
    readable = [word for word in words if word.font not in unreadable and not _CONTROL.search(word.text)]
    reader.lost[UNREADABLE] += len(words) - len(readable)
    words = readable
    # 3. The main direction, and what is bold beside most letters.
    directions, weights = Counter[_Direction](), Counter[int]()
    for word in words:
        directions[word.direction] += len(word.text)
        weights[word.weight] += len(word.text)
    least_bold = _BOLD_RATIO * (max(weights, key=weights.__getitem__, default=0) or _REGULAR)
    main, *others = [direction for direction, _ in directions.most_common()] or [(1, 0)]
    for word in words:
        word.size = word.size if word.direction == main else 0.0
        word.is_bold = word.direction == main and word.weight > least_bold
    upright = [[word for word in words if word.direction == direction] for direction in (main, *others)]
    # 4. Annotations and lines, in the coordinates of the main direction, whose words they are for.
    notes = [replace(note, box=_placed(note.box, main, crop)) for note in _annotations(page, form)]
    fields = [note for note in notes if note.kind == "field"]
    rules, edges = ([_placed(line, main, crop) for line in lines] for lines in _rules(page))
    reader.strike(upright[0], [*rules, *(note.box for note in notes if note.kind == "struck")])
    _add_addresses(upright[0], [note for note in notes if note.kind == "link"])
    upright[0] = _with_fields(upright[0], fields)
    comments = " ".join(note.text for note in notes if note.kind == "comment")
    reader.lost["words of comments"] += len(comments.split())
    watermark = " ".join([*reader.watermark(), *(note.text for note in notes if note.kind == "stamp")])
    text_page.close()
    contents = [
        PageContent(words, [] if number else [*rules, *edges]) for number, words in enumerate(upright)
    ]
    return PageText(contents, " ".join(watermark.split()), bool(fields), +reader.lost)  # "+": without zeros


def text_rows(words: Iterable[Word]) -> list[list[Word]]:
    """Return the words of equal height on the page, from top to bottom, each row from left to right."""
    rows: list[list[Word]] = []
    for word in sorted(words, key=lambda word: word.box.middle[1]):
        first = rows[-1][0].box if rows else None
        if first is None or word.box.middle[1] - first.middle[1] > SAME_LINE * first.height:
            rows.append([])
        rows[-1].append(word)
    return [sorted(row, key=lambda word: word.box.left) for row in rows]


def _is_unreadable(texts: Sequence[str]) -> bool:
    """Return whether the letters of a font's words are not those that it shows: most are signs ("!"#$%"), or
    they are Latin and make words of no language ("Wkh" for "The"). Names and codes are not judged."""
    unmarked_texts = [*map(unmarked, texts)]
    whole = _REPEATED.sub(r"\1", "".join(set(unmarked_texts)))  # without leaders of dots
    strange = sum(
        not char.isalnum() and (char.isascii() or char == "\ufffd" or unicodedata.category(char)[0] == "C")
        for char in whole
    )
    if 2 * strange > len(whole) and len(set(whole)) > _FEWEST_SIGNS:
        return sum(map(len, texts)) > _FEWEST_LETTERS
    is_latin = 2 * sum(map(str.isascii, whole)) > len(whole)
    return is_latin and len(whole) > _FEWEST_LETTERS and tells_language(unmarked_texts) is False


def _upright_rotation(text_page: Any) -> int | None:
    """Return the rotation of the page, in degrees, that makes most of its text upright; None without text."""
    count: int = pdfium.FPDFText_CountChars(text_page)
    places = range(0, count, max(1, count // _SAMPLED_ANGLES))
    angles = [pdfium.FPDFText_GetCharAngle(text_page, index) for index in places]  # clockwise; -1 for none
    quarters = Counter(round(angle / (pi / 2)) % 4 for angle in angles if angle >= 0)
    return (4 - quarters.most_common(1)[0][0]) % 4 * 90 if quarters else None


def _placed(box: Box, direction: _Direction, crop: Box) -> Box:
    """Return a box of the file's coordinates (y upwards) as it lies on the page with this text upright."""
    turned, paper = _turned(box, direction), _turned(crop, direction)
    left, top = turned.left - paper.left, turned.top - paper.top
    return Box(left, top, turned.right - paper.left, turned.bottom - paper.top)


def _turned(box: Box, direction: _Direction) -> Box:
    """Return a box of the file's coordinates turned so that this direction runs to the right, y downwards.
    The point (x, y) becomes (ax + by, bx - ay)."""
    a, b = direction
    left, right = a * box.left + b * box.top, a * box.right + b * box.bottom
    top, bottom = b * box.left - a * box.top, b * box.right - a * box.bottom
    return Box(min(left, right), min(top, bottom), max(left, right), max(top, bottom))


def around(boxes: Iterable[Box]) -> Box:
    """Return the smallest box that holds all boxes."""
    return _between(*(corner for box in boxes for corner in box.corners))


def _between(*points: tuple[float, float]) -> Box:
    """Return the smallest box that holds all points."""
    xs, ys = zip(*points or [(0.0, 0.0)], strict=True)
    return Box(min(xs), min(ys), max(xs), max(ys))


# --- words ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Style:
    """What all characters of a text object have in common."""

    key: int
    """Address of the text object, which is one of pdfium's."""
    size: float
    """As shown, in points."""
    weight: int
    font: int
    """Address of the font."""
    is_faint: bool
    """Whether it is seen only on a picture, or on a ground that is not white."""
    is_watermark: bool = False
    """Whether it is large and runs across."""
    is_off: bool = False
    """Whether it is on a layer that is switched off."""


class _Reader:
    """Reads the words of a page in the file's order, without those that are not seen. ``words`` is read to
    its end before ``watermark`` and ``strike`` are called."""

    def __init__(self, page: Any, text_page: Any, crop: Box) -> None:
        """``text_page``: pdfium's handle of the page's text. ``crop``: the visible part of the page, in the
        file's coordinates."""
        self.lost = Counter[str]()
        self._page = page
        self._text_page = text_page
        self._crop = crop
        self._styles: dict[int, _Style] = {}
        self._style = _Style(0, 0.0, 0, 0, is_faint=False)
        """Of the last character: a character without a text object takes it over."""
        self._grounds: list[Box] | None = None
        """Pictures and colored areas; None until they are asked for."""
        self._layers: dict[bytes, bool] = {}
        """By name, whether they are switched off."""
        self._whole = b""
        """The page's picture; empty until it is needed."""
        self._watermark: dict[int, Any] = {}
        """Text objects of watermarks by their keys."""

    def words(self) -> Iterator[Word]:
        """Yield each word; of one in several styles each part. Its box is as high as its font's size: the
        heights of letters that fonts give are up to six times too high."""
        direction: _Direction = (1, 0)
        for place, match in enumerate(_WORD.finditer(self._characters())):
            start, end = match.span()
            text, parts = _SOFT_HYPHEN.sub("\u00ad", match[0]), [range(start, end)]  # indices of characters
            if self._style_at(start) is not self._style_at(end - 1):
                groups = (tuple(part) for _, part in groupby(parts[0], key=lambda at: self._style_at(at).key))
                parts = [range(part[0], part[-1] + 1) for part in groups]
            boxes = {at: self._character(at) for part in parts for at in (part[0], part[-1])}
            direction = _direction(boxes[start], boxes[end - 1]) or direction
            for part in parts:
                style, outside = self._style_at(part[0]), around([boxes[part[0]], boxes[part[-1]]])
                if style.is_watermark:
                    self._watermark[style.key] = pdfium.FPDFText_GetTextObject(self._text_page, part[0])
                    continue
                is_unseen = style.is_off or (style.is_faint and not self._has_ground(outside))
                if is_unseen or not self._crop.holds(outside.middle):
                    self.lost["hidden words"] += part[0] == start  # a word counts once
                    continue
                box = _placed(outside, direction, self._crop)
                low = self._baseline(part[0], direction) + _DESCENT * style.size
                yield Word(
                    unicodedata.normalize("NFC", text[part[0] - start : part[-1] + 1 - start]),
                    Box(box.left, low - style.size, box.right, low),
                    style.size,
                    place=place,
                    direction=direction,
                    weight=style.weight,
                    font=style.font,
                    start=part[0],
                    is_joined=part[0] > start,
                )

    def watermark(self) -> Iterator[str]:
        """Yield the texts of large letters that run across."""
        for text_object in self._watermark.values():
            yield _string(pdfium.FPDFTextObj_GetText, text_object, self._text_page)

    def strike(self, words: Iterable[Word], rules: Iterable[Box]) -> None:
        """Mark the letters that a line runs through (in ``Word.text``), of words in one direction. A line
        strikes when words are along more than half of it, and it is near their middle. Marks that a struck
        word had are lost."""
        rows = defaultdict[int, list[Word]](list)
        for word in words:
            rows[round(word.box.middle[1])].append(word)
        for rule in rules:
            y, width = rule.middle[1], rule.right - rule.left
            # First words of rows within 5 points, then those whose middle is near enough for their height.
            near = [word for row in range(round(y) - 5, round(y) + 6) for word in rows.get(row, ())]
            near = [word for word in near if abs(word.box.middle[1] - y) < _MIDDLE * word.box.height]
            is_thin = rule.height <= _THICKEST_RULE <= width
            if is_thin and sum(max(0, shared(word.box, rule)) for word in near) > width / 2:
                for word in (word for word in near if shared(word.box, rule) > 0):
                    # Letters that the line runs through, and others, in groups that follow each other.
                    chars = unmarked(word.text)
                    places = (self._character(word.start + at) for at in range(len(chars)))
                    boxes = (_placed(place, word.direction, self._crop) for place in places)
                    struck = [rule.left < box.left + 1 and box.right - 1 < rule.right for box in boxes]
                    parts = groupby(zip(chars, struck, strict=True), key=lambda pair: pair[1])
                    texts = ((is_struck, "".join(char for char, _ in part)) for is_struck, part in parts)
                    word.text = "".join(
                        f"{STRUCK}{text}{RUN_END}" if is_struck else text for is_struck, text in texts
                    )

    def _style_at(self, index: int) -> _Style:
        """Return the style of a character: the same object for all characters of a text object. pdfium adds
        characters, such as spaces, that have none: they take over the last one's."""
        text_object = pdfium.FPDFText_GetTextObject(self._text_page, index)
        key = ctypes.addressof(text_object.contents) if text_object else self._style.key
        if text_object and key not in self._styles:
            self._styles[key] = self._read_style(index, text_object, key)
        self._style = self._styles.get(key, self._style)
        return self._style

    def _read_style(self, index: int, text_object: Any, key: int) -> _Style:
        """Return the style of a text object by one of its characters. The character's matrix (a, b, c, d)
        turns and stretches letters: (a, b) is where the line runs to, (c, d) where up is."""
        matrix, color = pdfium.FS_MATRIX(), [ctypes.c_uint(value) for value in (0, 0, 0, 255)]
        pdfium.FPDFText_GetMatrix(self._text_page, index, matrix)
        pdfium.FPDFText_GetFillColor(self._text_page, index, *color)
        *shades, opacity = (part.value for part in color)
        size = pdfium.FPDFText_GetFontSize(self._text_page, index) * hypot(matrix.c, matrix.d)  # as shown
        mode, font = (
            pdfium.FPDFTextObj_GetTextRenderMode(text_object),
            pdfium.FPDFTextObj_GetFont(text_object),
        )
        name = ctypes.create_string_buffer(_LONGEST_FONT_NAME)
        pdfium.FPDFFont_GetBaseFontName(font, name, len(name))
        is_bold = _BOLD_NAME.search(name.value) or mode == pdfium.FPDF_TEXTRENDERMODE_FILL_STROKE
        is_faint = min(shades) > _WHITE or opacity < 255 - _WHITE or size < 1
        is_faint |= mode == pdfium.FPDF_TEXTRENDERMODE_INVISIBLE  # as the words of a scan are
        lower, upper = sorted((abs(matrix.a), abs(matrix.b)))
        return _Style(
            key,
            size,
            _BOLD if is_bold else pdfium.FPDFText_GetFontWeight(self._text_page, index),
            ctypes.addressof(font.contents) if font else 0,
            is_faint=is_faint,
            is_watermark=lower > _SLANT * upper and size >= _LARGE,
            is_off=not is_faint and self._is_off(text_object),
        )

    def _is_off(self, text_object: Any) -> bool:
        """Return whether a text is on a layer that is switched off: the page's picture is the same without
        the first text of the layer. A text names its layers by marks with a parameter "Name"."""
        name, length = (ctypes.c_ushort * 100)(), ctypes.c_ulong()
        for number in range(pdfium.FPDFPageObj_CountMarks(text_object)):
            mark = pdfium.FPDFPageObj_GetMark(text_object, number)
            if pdfium.FPDFPageObjMark_GetParamStringValue(mark, b"Name", name, ctypes.sizeof(name), length):
                if (layer := bytes(name)[: length.value]) not in self._layers:
                    # Compare the page with a picture of it on which this text is not active.
                    self._whole = self._whole or _picture(self._page)
                    pdfium.FPDFPageObj_SetIsActive(text_object, False)
                    is_looked_at = len(self._layers) < _MOST_LAYERS
                    self._layers[layer] = is_looked_at and _picture(self._page) == self._whole
                    pdfium.FPDFPageObj_SetIsActive(text_object, True)
                if self._layers[layer]:
                    return True
        return False

    def _has_ground(self, box: Box) -> bool:
        """Return whether a picture or color is behind a box of the file's coordinates."""
        if self._grounds is None:
            self._grounds = list(_grounds(self._page))
        return any(ground.holds(box.middle) for ground in self._grounds)

    def _characters(self) -> str:
        """Return the page's text, one character for each index. A letter with its accent, which TeX draws as
        two characters, keeps two: the letter and a combining accent."""
        length = pdfium.FPDFText_CountChars(self._text_page)
        codes = (pdfium.FPDFText_GetUnicode(self._text_page, index) for index in range(length))
        text = "".join(chr(code) if code and not 0xD800 <= code < 0xE000 else " " for code in codes)
        for match in _ACCENT.finditer(text):
            at, x = match.start(), self._character(match.start()).middle[0]
            for first in (at - 1, at):  # the letter is before the accent, or after it
                letter = text[first : first + 2].replace(match[0], "").replace("\u0131", "i")
                # 2 * first + 1 - at: index of the letter
                if letter.isalpha() and abs(self._character(2 * first + 1 - at).middle[0] - x) < _OVER:
                    text = f"{text[:first]}{letter}{_COMBINING[_ACCENTS.index(match[0])]}{text[first + 2 :]}"
        return text

    def _baseline(self, index: int, direction: _Direction) -> float:
        """Return the y of the line that a character stands on, in the page's coordinates."""
        x, y = ctypes.c_double(), ctypes.c_double()
        pdfium.FPDFText_GetCharOrigin(self._text_page, index, x, y)
        return _placed(Box(x.value, y.value, x.value, y.value), direction, self._crop).top

    def _character(self, index: int) -> Box:
        """Return a character's box in the file's coordinates, with the space that it takes on the line."""
        box = pdfium.FS_RECTF()
        pdfium.FPDFText_GetLooseCharBox(self._text_page, index, box)
        return _between((box.left, box.bottom), (box.right, box.top))


def _picture(page: Any) -> bytes:
    """Return a small picture of the page, to be compared with another one."""
    return bytes(page.render(scale=_COPY_SIZE / max(page.get_size())).buffer)


def _mark(rise: float) -> str:
    """Return the mark of characters whose baseline is ``rise`` of a font's size above the line's (negative:
    below); "" for none."""
    least, most = _RISE
    return RAISED if least < rise < most else LOWERED if least < -2 * rise < most else ""


def shared(box: Box, other: Box) -> float:
    """Return the length of x that two boxes share, in points; negative: the gap between them."""
    return min(box.right, other.right) - max(box.left, other.left)


def _direction(first: Box, last: Box) -> _Direction | None:
    """Return where a word runs to; None if its ends are at one place."""
    (x, y), (to_x, to_y) = first.middle, last.middle
    across, up = to_x - x, to_y - y
    if abs(across) + abs(up) < 1:
        return None
    return (1 if across > 0 else -1, 0) if abs(across) >= abs(up) else (0, 1 if up > 0 else -1)


def _with_shifts(parts: Iterable[Word]) -> list[Word]:
    """Return words of their parts, and put a raised or lowered word ("2" after "mm") on the line of the one
    beside it, with marks around its text. The parts are changed."""
    words: list[Word] = []
    for word in parts:
        before = words[-1] if words else word
        is_joined = word.is_joined and before.direction == word.direction
        for small, host in ((word, before), (before, word)):
            if mark := _mark_beside(small, host, is_joined=is_joined):
                small.text, small.size = f"{mark}{small.text}{RUN_END}", host.size
                small.box = Box(small.box.left, host.box.top, small.box.right, host.box.bottom)
                before.weight = word.weight = host.weight
                before.font = word.font = host.font
        most = _TOUCHING if RUN_END in (before.text[-1], word.text[-1]) else _CUT
        touches = abs(word.box.left - before.box.right) < most * word.size
        if is_joined or (touches and before.box.bottom == word.box.bottom):
            before.text += word.text
            before.box = around([before.box, word.box])
        else:
            words.append(word)
    return words


def _mark_beside(small: Word, host: Word, *, is_joined: bool) -> str:
    """Return the mark of a small word that is raised or lowered against the word beside it (``host``); else
    "". ``is_joined``: they are parts of one word, so it need be neither smaller nor near."""
    most = 1.0 if is_joined else _SMALL
    if small is host or not _SMALLEST * host.size < small.size <= most * host.size:
        return ""
    gap = max(small.box.left - host.box.right, host.box.left - small.box.right)
    is_near = small.direction == host.direction and -_TOUCHING * host.size < gap < _NEAR * host.size
    return _mark((host.baseline - small.baseline) / host.size) if is_near or is_joined else ""


# --- fields of forms and other annotations ----------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Annotation:
    kind: str
    """"field" of a form, or a text that was typed onto the page; "struck", "stamp", "comment", "link"."""
    box: Box
    """Of "struck": a line through the middle of a line of text."""
    text: str
    """What is shown, or written into a comment, or a link's address; a check box has U+2611 or U+2610."""


def _annotations(page: Any, form: Any) -> Iterator[_Annotation]:
    """Yield what lies on the page and is shown, in the file's coordinates. ``form``: None for a file without
    a form."""
    kinds = {
        pdfium.FPDF_ANNOT_FREETEXT: "field",
        pdfium.FPDF_ANNOT_STAMP: "stamp",
        pdfium.FPDF_ANNOT_STRIKEOUT: "struck",
        pdfium.FPDF_ANNOT_TEXT: "comment",
        pdfium.FPDF_ANNOT_HIGHLIGHT: "comment",
        pdfium.FPDF_ANNOT_LINK: "link",
    }
    for number in range(min(pdfium.FPDFPage_GetAnnotCount(page.raw), _MOST_OBJECTS)):
        note = pdfium.FPDFPage_GetAnnot(page.raw, number)
        corners, subtype = pdfium.FS_RECTF(), pdfium.FPDFAnnot_GetSubtype(note)
        pdfium.FPDFAnnot_GetRect(note, corners)
        box = _between((corners.left, corners.bottom), (corners.right, corners.top))
        text = _string(pdfium.FPDFAnnot_GetStringValue, note, b"Contents")
        kind = kinds.get(subtype, "")
        if pdfium.FPDFAnnot_GetFlags(note) & _HIDDEN_ANNOTATION:
            kind = ""
        elif subtype == pdfium.FPDF_ANNOT_WIDGET and form:
            kind, text = "field", _field(note, form)
        elif kind == "stamp" and not text:
            text = _string(pdfium.FPDFAnnot_GetStringValue, note, b"Name").lstrip("#")
        elif kind == "link":
            action = pdfium.FPDFLink_GetAction(pdfium.FPDFAnnot_GetLink(note))
            buffer = ctypes.create_string_buffer(_LONGEST_ADDRESS)
            pdfium.FPDFAction_GetURIPath(page.pdf.raw, action, buffer, _LONGEST_ADDRESS)
            text = buffer.value.decode(errors="replace")
        places = [box] if kind != "struck" else list(_middles(note))
        pdfium.FPDFPage_CloseAnnot(note)
        yield from (_Annotation(kind, place, text) for place in places if kind)


def _middles(note: Any) -> Iterator[Box]:
    """Yield a line through each line of text that an annotation marks."""
    corners = pdfium.FS_QUADPOINTSF()
    for number in range(pdfium.FPDFAnnot_CountAttachmentPoints(note)):
        pdfium.FPDFAnnot_GetAttachmentPoints(note, number, corners)
        box = _between((corners.x1, corners.y1), (corners.x4, corners.y4))
        yield replace(box, top=box.middle[1], bottom=box.middle[1])


def _field(note: Any, form: Any) -> str:
    """Return what a form's field shows; "" for a password."""
    kind = pdfium.FPDFAnnot_GetFormFieldType(form, note)
    if kind in _CHECKED:
        return "\u2611" if pdfium.FPDFAnnot_IsChecked(form, note) else "\u2610"
    is_secret = pdfium.FPDFAnnot_GetFormFieldFlags(form, note) & _PASSWORD_FIELD
    return "" if is_secret else _string(pdfium.FPDFAnnot_GetFormFieldValue, form, note)


def _string(read: Any, *keys: Any) -> str:
    """Return the text that a function of pdfium gives for these keys. Such a function returns the text's
    size, and fills a buffer with UTF-16 where it gets one: the first call asks for the size."""
    size = read(*keys, None, 0)
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    read(*keys, buffer, size)
    return bytes(buffer)[:size].decode("utf-16-le", "replace").rstrip("\0")


def _add_addresses(words: Sequence[Word], links: Iterable[_Annotation]) -> None:
    """Add the address of each link to its last word. Its lines are annotations that follow each other."""
    linked = [(link.text, [word for word in words if link.box.holds(word.box.middle)]) for link in links]
    lines = list[Word]()
    for (address, line), (other, below) in pairwise([*linked, ("", [])]):
        lines += line
        if not (line and below and address == other and below[0].place == line[-1].place + 1):
            if lines:
                said, bare = " ".join(word.text for word in lines), lines[-1].text.rstrip(".,;:!?")
                lines[-1].text = bare + shown_address(address, said) + lines[-1].text[len(bare) :]
            lines = []


def _with_fields(words: list[Word], fields: Iterable[_Annotation]) -> list[Word]:
    """Return the words of a page with its check boxes and the values of its fields, each in the place after
    its label: the word left of it on its line, else the nearest word above."""
    size = Counter(word.size for word in words).most_common(1)[0][0] if words else 10.0
    added: list[Word] = []
    for entry in fields:
        left, y = entry.box.left, entry.box.middle[1]
        beside = [word for word in words if word.box.top < y < word.box.bottom]
        before = [word for word in beside if word.box.left < entry.box.middle[0]]
        above = [word for word in words if word.box.bottom < entry.box.bottom]
        label = max(before, key=lambda word: word.box.left, default=None)
        label = label or max(above, key=lambda word: (word.box.bottom, word.box.left), default=None)
        low = beside[0].box.bottom - size if beside else entry.box.top
        for line in filter(str.strip, entry.text.splitlines()):
            text, low = " ".join(line.split()), low + size
            # Its width is not known: a letter has some 0.6 of the font's size.
            right = max(min(entry.box.right, left + 0.6 * size * len(text)), left + 1)
            place = label.place + 0.5 if label else -1  # between the label and the word after it
            added.append(Word(text, Box(left, low - size, right, low), size, place=place))
    return sorted([*words, *added], key=lambda word: word.place)


# --- ruling lines -----------------------------------------------------------------------------------------
def _drawn(page: Any, *kinds: int) -> Iterator[tuple[Any, Any]]:
    """Yield graphics objects of these kinds with the matrix to the file's coordinates: an object in others
    has their matrices too."""
    for drawn in islice(page.get_objects(filter=kinds, max_depth=_DEEPEST_FORM), _MOST_OBJECTS):
        form, matrix = drawn.container, drawn.get_matrix()
        while form is not None:
            form, matrix = form.container, matrix.multiply(form.get_matrix())
        yield drawn, matrix


def _rules(page: Any) -> tuple[list[Box], list[Box]]:
    """Return the horizontal and vertical lines, in the file's coordinates, and the straight edges of larger
    shapes: a table's cells may be rectangles."""
    rules: list[Box] = []
    edges: list[Box] = []
    for path, matrix in _drawn(page, pdfium.FPDF_PAGEOBJ_PATH):
        points, lines = _path(path.raw, matrix)
        outline = _between(*points)
        if min(outline.right - outline.left, outline.height) < _THICKEST_RULE:
            rules.append(outline)
        else:
            edges += [line for line in lines if min(line.right - line.left, line.height) < 1]
    return rules, edges


def _grounds(page: Any) -> Iterator[Box]:
    """Yield the places of pictures, and of paths that are filled with another color than white."""
    for drawn, matrix in _drawn(page, pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_PATH):
        if drawn.type == pdfium.FPDF_PAGEOBJ_IMAGE:
            yield _between(*(matrix.on_point(x, y) for x in (0, 1) for y in (0, 1)))  # a unit square
            continue
        mode, stroke, color = ctypes.c_int(), ctypes.c_int(), [ctypes.c_uint() for _ in range(4)]
        pdfium.FPDFPath_GetDrawMode(drawn.raw, mode, stroke)
        pdfium.FPDFPageObj_GetFillColor(drawn.raw, *color)
        if mode.value and min(part.value for part in color[:3]) <= _WHITE:
            yield _between(*_path(drawn.raw, matrix)[0])


def _path(path: Any, matrix: Any) -> tuple[Sequence[tuple[float, float]], Sequence[Box]]:
    """Return the points of a path and its straight parts, in the file's coordinates. A part that closes it
    leads back to the point where it began."""
    x, y = ctypes.c_float(), ctypes.c_float()
    points: list[tuple[float, float]] = []
    lines: list[Box] = []
    start = 0
    for index in range(min(pdfium.FPDFPath_CountSegments(path), _MOST_OBJECTS)):
        segment = pdfium.FPDFPath_GetPathSegment(path, index)
        pdfium.FPDFPathSegment_GetPoint(segment, x, y)
        points.append(matrix.on_point(x.value, y.value))
        kind = pdfium.FPDFPathSegment_GetType(segment)
        start = index if kind == pdfium.FPDF_SEGMENT_MOVETO else start
        if kind == pdfium.FPDF_SEGMENT_LINETO:
            lines.append(_between(*points[-2:]))
        if pdfium.FPDFPathSegment_GetClose(segment):
            lines.append(_between(points[-1], points[start]))
    return points, lines
