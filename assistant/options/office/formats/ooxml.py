"""The XML of Office files: its elements under short names, its formulas as text, its fonts of symbols."""

from __future__ import annotations

import re
from posixpath import join, normpath, split
from xml.etree.ElementTree import Element, ParseError, fromstring
from zipfile import ZipFile

from assistant.documents.page import Runs, plain
from assistant.documents.parsing.formulas import linear

_STRICT = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/(\w+)")
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
OFF = frozenset(["0", "false", "off"])


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
    space, _, local = long.lstrip("{").rpartition("}")
    names[long] = f"{_LONG_NAMES.get(space, _OTHER)}{local}"
    return names[long]


def part(container: ZipFile, name: str) -> Element:
    """Return a part's root; an empty element if there is none, or no XML."""
    try:
        return tree(container.read(name))
    except (KeyError, ParseError):
        return Element("none")


class Relations:
    """What a part refers to: parts of the file and addresses outside of it, by id and by kind."""

    def __init__(self, container: ZipFile, name: str) -> None:
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
    """Return the element below an element by the tags on the way to it."""
    for tag in tags:
        element = None if element is None else element.find(tag)
    return element


def value(element: Element | None, *tags: str, default: str = "") -> str:
    """Return what an element below an element is set to; the default if it is not there."""
    found = find(element, *tags)
    return default if found is None else found.get("val", default)


def is_on(element: Element | None) -> bool:
    """Return whether an element that switches something is there and says so."""
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


def caption(described: str) -> Runs:
    """Return what stands for a picture. The name of its file does not."""
    text = " ".join(described.split())
    return () if " " not in text and "." in text[-5:] else plain(text)


def diagram_texts(data: Element) -> list[str]:
    """Return the texts of a diagram (SmartArt) by its data part."""
    texts = ("".join(run.text or "" for run in paragraph.iter("a_t")) for paragraph in data.iter("a_p"))
    return [text for text in texts if text.strip()]


# Formulas


def formula(element: Element) -> str:
    """Return a formula in one line."""
    children = [child for child in element if not child.tag.endswith("Pr")]
    inner, tags = list(map(formula, children)), [child.tag for child in children]
    match element.tag:
        case "m_t":
            return element.text or ""
        case "del" | "moveFrom":
            return ""
        case "m_f":
            return linear("m_m" if _sign(element, "type", "bar") == "noBar" else "m_f", inner)
        case "m_rad":
            return linear("mroot", inner[::-1]) if inner[0] and inner[1:] else linear("msqrt", inner)
        case "m_d":
            begin, apart, end = (_sign(element, name, usual) for name, usual in _DELIMITERS)
            return f"{begin}{apart.join(inner)}{end}"
        case "m_nary":
            parts = [_sign(element, "chr", "∫"), *inner[:-1]]
            return f"{linear('msubsup', parts) if all(parts) else ''.join(parts)} {inner[-1]}"
        case "m_func":
            return " ".join(inner)
        case _:
            return linear(element.tag, inner, tags)


_DELIMITERS = (("begChr", "("), ("sepChr", "|"), ("endChr", ")"))


def _sign(element: Element, name: str, usual: str) -> str:
    found = element.find(f"*/m_{name}")
    return usual if found is None else found.get("m_val", "")


# Symbols


_SYMBOL_FONT = (
    " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼"  # noqa: RUF001
)
_SYMBOL_FONT_HIGH = (
    "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…⏐⎯↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪\ufffd〉∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭"  # noqa: RUF001
)
_FONTS = {
    "symbol": {0x20 + place: char for place, char in enumerate(_SYMBOL_FONT)}
    | {0xA0 + place: char for place, char in enumerate(_SYMBOL_FONT_HIGH)},
    "wingdings": dict(
        zip(
            b"\x20\x6c\x6e\x6f\x71\xa7\xa8\xd8\xdf\xe0\xe1\xe2\xe8\xf0\xfb\xfc\xfd\xfe",
            " ●■☐❑▪☐➢←→↑↓➔⇨✗✓☒☑",
            strict=True,
        )
    ),
    "wingdings 2": dict(zip(b"\x20\x4f\x50\x51\x52\x53\x54\xa3", " ✗✓☒☑☒☒☐", strict=True)),
}
UNKNOWN_SYMBOL = "\ufffd"


def symbols(text: str, font: str) -> str:
    """Return a text as its font shows it: in the font Symbol, "m" is "μ". Such fonts have their characters at
    0xF000 too. A symbol that is not known is UNKNOWN_SYMBOL."""
    known = _FONTS.get(font.lower())
    return text if known is None and text.isascii() else "".join(_symbol(char, known) for char in text)


def _symbol(char: str, known: dict[int, str] | None) -> str:
    is_private = 0xF000 <= ord(char) <= 0xF0FF
    code = ord(char) - 0xF000 if is_private else ord(char)
    if known is None or code > 0xFF:
        return UNKNOWN_SYMBOL if is_private else char
    return known.get(code, UNKNOWN_SYMBOL)
