"""What Office files have in common: their container, their XML, formulas and lists.

with open_container(raw, part="word/document.xml") as container, whole_file("Word"):
    root = part(container, "word/document.xml")          # Element "document"
    value(root, "body", "p", "pPr", "pStyle")            # "Heading1"
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from posixpath import join, normpath, split
from typing import NoReturn
from xml.etree.ElementTree import Element, ParseError, fromstring
from xml.parsers import expat

from assistant.documents.page import Block, Item, List, Loss, Runs, counted, linear, plain
from assistant.domain.errors import DocumentInvalidError

# The zip container, which is checked before a library opens it

MOST_BYTES = 300_000_000
"""Limit for all parts together, unpacked, images too: six times the largest file that is read."""
MOST_XML_BYTES = 100_000_000
"""Limit for one XML part: a tree of it must fit the child's memory."""
MOST_PARTS = 10_000
"""Limit for the number of parts, which bounds the work of the checks here."""
MOST_RATIO = 200
"""Unpacked to packed bytes of one part. A sheet of equal rows has 14; deflate reaches 1,030."""
_RATIO_FROM_BYTES = 10_000_000
"""Parts below this size may have any ratio."""
_BROKEN = (ArithmeticError, AttributeError, LookupError, RecursionError, SyntaxError, TypeError, ValueError)
"""Errors of parsers and of our own code for a part that is missing or not as it should be."""
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Begins an OLE compound file: Office before 2007, and an encrypted file of today."""
_PROLOG_BYTES = 1 << 16
"""Read at a time until the root element begins."""
_CONTENT_TYPES = "[Content_Types].xml"


class _RootReachedError(Exception):
    """The root element began: there was no document type declaration before it."""


def open_container(raw: bytes, *, part: str) -> zipfile.ZipFile:
    """Return the opened container, which is within all limits and has a part of this name.

    Raises DocumentInvalidError for an encrypted, truncated or oversized file, and for XML with a document
    type declaration: Office formats forbid it, and only hostile files use its entities.
    """
    if raw.startswith(_OLE):
        problem = "it is encrypted with a password, or in the format of Office before 2007"
        raise DocumentInvalidError(f"{problem}. Save it without a password in today's format.")
    try:
        container = zipfile.ZipFile(io.BytesIO(raw))
        _check_sizes(container.infolist())
        xml = _xml_parts(container)
        if part not in container.namelist():
            raise DocumentInvalidError(f'it has no part "{part}". Check that its suffix names its format.')
        for entry in container.infolist():
            if entry.filename in xml:
                _check_xml(container, entry)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError) as error:
        problem = f"its container cannot be opened ({type(error).__name__}): it is truncated or damaged"
        raise DocumentInvalidError(f"{problem}. Copy or save it again.") from None
    return container


@contextmanager
def whole_file(program: str) -> Generator[None]:
    """Raise DocumentInvalidError for an error inside, of a part that is missing or not as it should be."""
    try:
        yield
    except _BROKEN as error:
        problem = f"it is not a whole {program} file ({type(error).__name__})"
        raise DocumentInvalidError(f"{problem}. Open it in {program} and save it again.") from None


def macros(container: zipfile.ZipFile) -> tuple[Loss, ...]:
    """Return a loss if the file has macros. They are never run."""
    has_macros = any(name.endswith("vbaProject.bin") for name in container.namelist())
    return (Loss("its macros were not read"),) if has_macros else ()


def _check_sizes(entries: list[zipfile.ZipInfo]) -> None:
    """Raise DocumentInvalidError for too many parts, too many bytes, or a part that is packed too well."""
    unpacked = sum(entry.file_size for entry in entries)
    if len(entries) > MOST_PARTS or unpacked > MOST_BYTES:
        problem = f"it unpacks to {len(entries):,} parts of {unpacked:,} bytes"
        limits = f"at most {MOST_PARTS:,} parts of {MOST_BYTES:,} bytes are read"
        raise DocumentInvalidError(f"{problem}; {limits}. Split it.")
    for entry in entries:
        if entry.file_size > max(_RATIO_FROM_BYTES, MOST_RATIO * entry.compress_size):
            raise _too_large(entry)


def _too_large(entry: zipfile.ZipInfo) -> DocumentInvalidError:
    problem = f"its part {entry.filename:.80} unpacks from {entry.compress_size:,} to"
    return DocumentInvalidError(f"{problem} {entry.file_size:,} bytes. Split the document.")


def _xml_parts(container: zipfile.ZipFile) -> set[str]:
    """Return the names of the parts that are parsed as XML.

    A name may end in anything: the file's list of content types says what a part is (ECMA-376 part 2,
    *Content types*), for a suffix or for one name. Pictures in SVG are left out: no parser reads them.

        <Default Extension="xml" ContentType="application/xml"/>
        <Override PartName="/word/document.xml" ContentType="application/vnd.…main+xml"/>
    """
    suffixes, names = {"xml", "rels"}, {_CONTENT_TYPES.lower()}

    def element(_: str, attributes: dict[str, str]) -> None:
        kind = attributes.get("ContentType", "").partition(";")[0].strip().lower()
        if kind.endswith(("/xml", "+xml")) and not kind.startswith("image/"):
            suffixes.add(attributes.get("Extension", "xml").lower())
            names.add(attributes.get("PartName", "").removeprefix("/").lower())

    if _CONTENT_TYPES in container.namelist():
        entry = container.getinfo(_CONTENT_TYPES)
        _check_xml(container, entry)
        parser = expat.ParserCreate()
        parser.StartElementHandler = element
        with container.open(entry) as part:
            try:
                parser.ParseFile(part)
            except expat.ExpatError:
                raise _not_xml(entry) from None
    return {
        name
        for name in container.namelist()
        if name.lower() in names or name.rpartition(".")[2].lower() in suffixes
    }


def _not_xml(entry: zipfile.ZipInfo) -> DocumentInvalidError:
    problem = f"its part {entry.filename:.80} is not XML"
    return DocumentInvalidError(f"{problem}. Open the file in Office and save it again.")


def _check_xml(container: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Raise DocumentInvalidError for a part that is too large, is not XML, or declares a document type. It
    reads the part up to the begin of its root."""
    if entry.file_size > MOST_XML_BYTES:
        raise _too_large(entry)

    def refuse(*_: object) -> NoReturn:
        problem = f"its part {entry.filename:.80} declares a document type (DOCTYPE)"
        raise DocumentInvalidError(f"{problem}, which Office files must not. Save it again in Office.")

    def end(*_: object) -> NoReturn:
        raise _RootReachedError

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = end
    with container.open(entry) as part:
        try:
            while chunk := part.read(_PROLOG_BYTES):
                parser.Parse(chunk)
            parser.Parse(b"", True)
        except _RootReachedError:
            return
        except expat.ExpatError:
            raise _not_xml(entry) from None


# XML: elements under short names

_STRICT = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/(\w+)")
"""Namespaces of the strict variant: "http://purl.oclc.org/ooxml/wordprocessingml/main"."""
# Namespace = prefix of the short name. All code of this folder uses the short names.
_LONG_NAMES = {
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main": "",
    "http://schemas.microsoft.com/office/word/2010/wordml": "w14_",
    "http://schemas.openxmlformats.org/officeDocument/2006/math": "m_",
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships": "r_",
    "http://schemas.openxmlformats.org/drawingml/2006/main": "a_",
    "http://schemas.openxmlformats.org/drawingml/2006/chart": "c_",
    "http://schemas.microsoft.com/office/drawing/2014/chartex": "c_",
    "http://schemas.openxmlformats.org/drawingml/2006/diagram": "dgm_",
    "http://schemas.openxmlformats.org/drawingml/2006/picture": "pic_",
    "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing": "wp_",
    "http://schemas.openxmlformats.org/markup-compatibility/2006": "mc_",
    "urn:schemas-microsoft-com:vml": "v_",
}
_OTHER = "other_"
"""Prefix for every other namespace."""
OFF = frozenset(["0", "false", "off"])
"""Values of an attribute that switch something off."""


def tree(raw: bytes) -> Element:
    """Return a part's root. An element and an attribute of WordprocessingML has its bare name ("p"), one of
    another kind a prefix ("m_r"), whatever the file calls them. Raises ParseError."""
    root = fromstring(_STRICT.sub(rb"http://schemas.openxmlformats.org/\1/2006/\2", raw))  # noqa: S314 - no part has a document type
    names: dict[str, str] = {}
    for element in root.iter():
        element.tag = names.get(element.tag) or _named(names, element.tag)
        for long in [key for key in element.attrib if key[0] == "{"]:
            element.attrib[names.get(long) or _named(names, long)] = element.attrib.pop(long)
    return root


def _named(names: dict[str, str], long: str) -> str:
    """Return the short name of "{NAMESPACE}LOCAL", and add it to ``names``."""
    space, _, local = long.lstrip("{").rpartition("}")
    names[long] = f"{_LONG_NAMES.get(space, _OTHER)}{local}"
    return names[long]


def part(container: zipfile.ZipFile, name: str) -> Element:
    """Return a part's root by ``tree``; an empty element "none" if there is no such part, or no XML."""
    try:
        return tree(container.read(name))
    except (KeyError, ParseError):
        return Element("none")


class Relations:
    """What a part refers to: parts of the file and addresses outside of it.

    relations = Relations(container, "word/document.xml")    # reads word/_rels/document.xml.rels
    relations.targets["rId4"]       # "https://a.example/", or "word/media/image1.png"
    relations.by_kind["styles"]     # "word/styles.xml", the first one of its kind
    """

    def __init__(self, container: zipfile.ZipFile, name: str) -> None:
        folder, base = split(name)
        self.targets: dict[str, str] = {}
        self.by_kind: dict[str, str] = {}
        for relation in part(container, f"{folder}/_rels/{base}.rels".lstrip("/")):
            target = relation.get("Target", "")
            if relation.get("TargetMode") != "External":
                target = normpath(join("/", folder, target)).lstrip("/")
            self.targets[relation.get("Id", "")] = target
            self.by_kind.setdefault(relation.get("Type", "").rpartition("/")[2], target)


def find(element: Element | None, *tags: str) -> Element | None:
    """Return the element below an element by the tags on the way to it; None where one is missing, or
    ``element`` is None."""
    for tag in tags:
        element = None if element is None else element.find(tag)
    return element


def value(element: Element | None, *tags: str, default: str = "") -> str:
    """Return the attribute ``val`` of an element below an element (of itself without tags); the default if
    it is not there."""
    target = find(element, *tags)
    return default if target is None else target.get("val", default)


def is_on(element: Element | None) -> bool:
    """Return whether an element that switches something is there and on: ``<b/>`` is, ``<b val="0"/>`` is
    not."""
    return element is not None and element.get("val", "1") not in OFF


def number(element: Element | None, default: int = 0) -> int:
    """Return the whole number that an element gives; the default for none."""
    value = "" if element is None else element.get("val", "")
    return int(value) if re.fullmatch(r"-?\d{1,9}", value) else default


def words_of(element: Element) -> int:
    """Return how many words stand in an element, of any kind of XML."""
    texts = (
        " " if inner.tag in ("p", "a_p") else inner.text or ""
        for inner in element.iter()
        if inner.tag in _TEXTS
    )
    return len("".join(texts).split())


_TEXTS = frozenset(["t", "delText", "a_t", "m_t", "p", "a_p"])
"""Elements with text, and paragraphs, between which words end."""


def caption(described: str) -> Runs:
    """Return the alternative text of a picture as runs; none where it is only a file's name: "image1.png"."""
    text = " ".join(described.split())
    return () if " " not in text and "." in text[-5:] else plain(text)


def is_arrow(drawn: Element) -> bool:
    """Return whether a drawing without a text has an arrow, by its shape or the ends of its line."""
    names = (
        inner.get("prst" if inner.tag == "a_prstGeom" else "type", "")
        for inner in drawn.iter()
        if inner.tag in _ARROWS
    )
    return any("rrow" in name or name in ("triangle", "stealth") for name in names) and not words_of(drawn)


_ARROWS = frozenset(["a_prstGeom", "a_headEnd", "a_tailEnd"])
"""Elements that say the kind of a shape, and of both ends of a line."""


def diagram_texts(data: Element) -> list[str]:
    """Return the texts of a diagram (SmartArt) by its data part."""
    texts = ("".join(run.text or "" for run in paragraph.iter("a_t")) for paragraph in data.iter("a_p"))
    return [text for text in texts if text.strip()]


# Formulas


def formula(element: Element) -> str:
    """Return a formula (``m_oMath``, or an element in it) in one line: "(140 - age)/72". Elements whose names
    end in "Pr" are properties, which ``_sign`` reads; the others are operands, in Office's order."""
    children = [child for child in element if not child.tag.endswith("Pr")]
    inner, tags = list(map(formula, children)), [child.tag for child in children]
    match element.tag:
        case "m_t":
            return element.text or ""
        case "del" | "moveFrom":
            return ""
        case "m_f":  # a fraction; without a bar one thing above another
            return linear("m_m" if _sign(element, "type", "bar") == "noBar" else "m_f", inner)
        case "m_rad":  # degree and radicand; without a degree a square root
            return linear("mroot", inner[::-1]) if inner[0] and inner[1:] else linear("msqrt", inner)
        case "m_d":
            begin, apart, end = (_sign(element, name, usual) for name, usual in _DELIMITERS)
            return f"{begin}{apart.join(inner)}{end}"
        case "m_nary":  # a sum or integral: lower limit, upper limit, operand
            parts = [_sign(element, "chr", "∫"), *inner[:-1]]
            return f"{linear('msubsup', parts) if all(parts) else ''.join(parts)} {inner[-1]}"
        case "m_func":
            return " ".join(inner)
        case _:
            return linear(element.tag, inner, tags)


_DELIMITERS = (("begChr", "("), ("sepChr", "|"), ("endChr", ")"))
"""Property of a pair of brackets, and its sign where the file does not say it."""


def _sign(element: Element, name: str, usual: str) -> str:
    """Return the value of a property of a formula's element; ``usual`` where it is not there."""
    prop = element.find(f"*/m_{name}")
    return usual if prop is None else prop.get("m_val", "")


# Lists: their numbers, as Word counts and shows them, and lists in lists

DEEPEST_LEVEL = 8
"""Word has nine levels, counted from 0."""
_PLACEHOLDER = re.compile(r"%([1-9])")
"""In the text of a level, the number of a level, counted from 1: "%1.%2." is shown as "3.2."."""
_SHOWN_ITSELF = "•"
"""For a sign of a bullet that is a letter of a font of symbols."""


_KINDS = {
    **dict.fromkeys(("lowerLetter", "alphaLc"), "a"),
    **dict.fromkeys(("upperLetter", "alphaUc"), "A"),
    **dict.fromkeys(("lowerRoman", "romanLc"), "i"),
    **dict.fromkeys(("upperRoman", "romanUc"), "I"),
}
"""Word's and PowerPoint's formats as HTML calls them. Another format is shown in digits."""


def shown(count: int, number_format: str) -> str:
    """Return a number in one of Office's formats, whose letters go on with "aa" and "bb" after "z":
    ``shown(28, "lowerLetter")`` is "bb", ``shown(4, "upperRoman")`` is "IV"."""
    if number_format == "none":
        return ""
    if number_format == "decimalZero":
        return f"{count:02}"
    kind = _KINDS.get(number_format, "1")
    rounds, place = divmod(count - 1, 26) if kind in "aA" and count > 0 else (0, count - 1)
    return counted(place + 1, kind) * (rounds + 1)


class Numbering:
    """Counts the items of all lists of a document: call ``next`` for each item, in the document's order.

        numbering.next("1", 0)    # ("1.", True)
        numbering.next("1", 1)    # ("a)", True)
        numbering.next("1", 0)    # ("2.", True)

    A *list* (``num``) has an id, which paragraphs name, and a *kind* (``abstractNum``) with the formats of
    its levels. Lists of one kind go on counting where the other one ended, unless they say where they start.
    """

    def __init__(self, root: Element, style_lists: Mapping[str, str]) -> None:
        """``root``: of the part ``numbering``. ``style_lists``: the list of each style of lists, by the
        style's id: a kind may stand for that list's kind (``numStyleLink``)."""
        kinds, lists = root.findall("abstractNum"), root.findall("num")
        self._levels = {
            kind.get("abstractNumId"): {_level_of(level): level for level in kind.findall("lvl")}
            for kind in kinds
        }
        self._lists = {entry.get("numId", ""): value(entry, "abstractNumId") for entry in lists}
        self._overrides = {
            (entry.get("numId", ""), _level_of(override)): override
            for entry in lists
            for override in entry.findall("lvlOverride")
        }
        """Levels that a list has instead of those of its kind, and where it starts again."""
        self._counts: dict[str, list[int | None]] = {}
        """By kind, the number of the last item of each level; None: the next item is the first."""
        self._begun = set[str]()
        """Lists of which an item was counted."""
        links = {
            kind.get("abstractNumId"): style_lists.get(value(kind, "numStyleLink"), "") for kind in kinds
        }
        for number_id, kind in self._lists.items():
            self._lists[number_id] = self._lists.get(links.get(kind, ""), kind)

    def level_of_style(self, number_id: str, style_id: str, default: int) -> int:
        """Return the level (from 0) of a list that a paragraph's style stands for; ``default`` if none."""
        for place, level in self._levels.get(self._lists.get(number_id, ""), {}).items():
            if value(level, "pStyle") == style_id:
                return place
        return default

    def next(self, number_id: str, place: int) -> tuple[str, bool]:
        """Count an item of a list at a level (``place``, from 0). Return what stands before it, empty for
        nothing, and whether it is a number."""
        kind = self._lists.get(number_id)
        if kind is None or not 0 <= place <= DEEPEST_LEVEL:
            return "", False
        counts = self._counts.setdefault(kind, [None] * (DEEPEST_LEVEL + 1))
        if number_id not in self._begun:
            self._begun.add(number_id)
            for level in range(DEEPEST_LEVEL + 1):
                if self._start_again(number_id, level) is not None:
                    counts[level] = None
        for above in range(place):  # an item of a level counts as one of each level above it
            counts[above] = self._start(number_id, above) if counts[above] is None else counts[above]
        last = counts[place]
        counts[place] = self._start(number_id, place) if last is None else last + 1
        for below in range(place + 1, DEEPEST_LEVEL + 1):
            restart = find(self._level(number_id, below), "lvlRestart")
            # ``lvlRestart``, counted from 1: only an item of that level or above starts it again; 0: none.
            if restart is None or number(restart) > place:
                counts[below] = None
        return self._shown(number_id, place, counts)

    def _level(self, number_id: str, place: int) -> Element | None:
        """Return the format of a level: the list's own, else its kind's; None without one."""
        level = find(self._overrides.get((number_id, place)), "lvl")
        return self._levels.get(self._lists[number_id], {}).get(place) if level is None else level

    def _start_again(self, number_id: str, place: int) -> int | None:
        """Return the first number of a level that the list itself says; None where its kind says it."""
        start = find(self._overrides.get((number_id, place)), "startOverride")
        return None if start is None else number(start)

    def _start(self, number_id: str, place: int) -> int:
        """Return the first number of a level."""
        again = self._start_again(number_id, place)
        return number(find(self._level(number_id, place), "start")) if again is None else again

    def _shown(self, number_id: str, place: int, counts: list[int | None]) -> tuple[str, bool]:
        """Return what stands before an item, and whether it is a number. ``counts``: of the item's kind."""
        level = self._level(number_id, place)
        if level is None:
            return "", False
        pattern = value(level, "lvlText")
        if _format(level) == "bullet":
            sign = pattern.strip()
            is_shown = sign and sign.isprintable() and not sign.isalnum()
            return (sign if is_shown else _SHOWN_ITSELF) if pattern else "", False
        is_legal = is_on(level.find("isLgl"))

        def count(placeholder: re.Match[str]) -> str:
            at = int(placeholder[1]) - 1
            last, its_level = counts[at] or 0, self._level(number_id, at)
            return shown(last, "decimal" if is_legal or its_level is None else _format(its_level))

        marker = _PLACEHOLDER.sub(count, pattern).strip()
        return marker, any(map(str.isalnum, marker))


def _level_of(element: Element) -> int:
    """Return the level (``ilvl``, from 0) that an element is about; the deepest for one that Word lacks."""
    value = element.get("ilvl", "0")
    return int(value) if value in tuple("012345678") else DEEPEST_LEVEL


def _format(level: Element) -> str:
    return value(level, "numFmt", default="decimal")


@dataclass(frozen=True, slots=True)
class Point:
    """An item of a list before the lists are nested."""

    level: int
    """From 0."""
    is_ordered: bool
    item: Item


def nested(entries: Iterable[Block | Point]) -> tuple[Block, ...]:
    """Return blocks with the items that follow each other as lists in lists: items of the levels 0, 1, 1, 0
    are one list of two items, of which the first one holds a list of two."""
    blocks: list[Block] = []
    for is_list, group in groupby(entries, key=lambda entry: isinstance(entry, Point)):
        if is_list:
            blocks += _lists([entry for entry in group if isinstance(entry, Point)])
        else:
            blocks += [entry for entry in group if not isinstance(entry, Point)]
    return tuple(blocks)


def _lists(points: Sequence[Point]) -> Iterator[List]:
    """Yield lists of the items, with deeper items inside the item above; a list ends where numbers follow
    bullets, or bullets numbers."""
    start = 0
    groups: list[tuple[bool, Item]] = []
    while start < len(points):
        point, end = points[start], start + 1
        while end < len(points) and points[end].level > point.level:
            end += 1
        inner = (*point.item.blocks, *_lists(points[start + 1 : end]))
        groups.append((point.is_ordered, replace(point.item, blocks=inner)))
        start = end
    for is_ordered, group in groupby(groups, key=lambda entry: entry[0]):
        yield List(tuple(item for _, item in group), is_ordered=is_ordered)
