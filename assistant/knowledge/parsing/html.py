"""Reads HTML into the page model by turbohtml: the main content, without repeated parts of a page.

Elements that the page hides are read and marked, but for panels that a button opens: these are content.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from string import ascii_lowercase

from turbohtml import Document, Element, Node, Text, parse

from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.page import (
    Block,
    Cell,
    Code,
    Definition,
    Figure,
    Heading,
    Item,
    List,
    OlderText,
    Page,
    Paragraph,
    Place,
    Run,
    Runs,
    Shift,
    Table,
)

DEEPEST_NESTING = 200
"""Elements around an element, and itself, in a page that is parsed. The parser itself stops at 512."""
_DEEPEST_BLOCKS = 40
"""Lists and definitions around a block: a page of deeper ones cannot be stored."""
_UNSEEN = "script, style, noscript, svg, iframe, object"
_ROLES = "[role=navigation], [role=banner], [role=contentinfo], [role=search], [role=complementary]"
_DROPPED = f"{_UNSEEN}, nav, {_ROLES}"
_DROPPED_AROUND_MAIN = "header, footer, aside"
_HIDING = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])|opacity\s*:\s*0(?![.\d])", re.I
)
_STRIKING = re.compile(r"text-decoration[a-z-]*\s*:[^;]*line-through", re.I)
_SHIFTING = re.compile(r"vertical-align\s*:\s*(super|sub)\b", re.I)
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_PAGE = re.compile(r"page-(\d{1,5})")
"""The anchor of a page's heading, as ``conversion`` writes it."""
_STRUCK = frozenset(["del", "s", "strike"])
_SHIFTS = {"sup": Shift.RAISED, "super": Shift.RAISED, "sub": Shift.LOWERED}
"""By tag and by the value of ``vertical-align``."""
_CONTROLS = "button, summary, [role=button], [role=tab]"
_CONTROLLED = ("aria-controls", "data-target", "data-bs-target", "href")
"""Attributes by which a control names the panel that it opens."""
_PANEL_HEADING = 4
"""Level of a control that opens a panel, where no heading is around it."""
_TEXT_BLOCKS = frozenset(
    ["p", "blockquote", "address", "figure", "figcaption", "dl", "hr", "center", "legend"]
)
_PARTS = {
    "body",
    "main",
    "article",
    "section",
    "div",
    "header",
    "footer",
    "aside",
    "form",
    "fieldset",
    "dialog",
}
_BLOCKS = _TEXT_BLOCKS | _PARTS | {"hgroup", "details", "tbody", "table", "tr", "td", "th", "li"}
_PHRASES = {"a", "abbr", "cite", "code", "em", "kbd", "mark", "q", "s", "samp", "span", "strong", "var"}
INLINE = _PHRASES | {"b", "del", "font", "i", "ins", "label", "small", "strike", "sub", "sup", "u", "wbr"}
"""Elements that do not separate words."""
_OLDER = "blockquote[type=cite], .gmail_quote, .yahoo_quoted, .protonmail_quote"
"""What programs for e-mail write around an older mail."""
_WIDEST_SPAN = 1000
_SPACES = re.compile(r"\s+")


def read_html(content: str) -> Page:
    """Return the main content; a page without blocks where there is none.

    Raises DocumentInvalidError for elements nested deeper than DEEPEST_NESTING.
    """
    page = parse(content).remove("template")  # a selector would match inside it
    if page.select_one("* > " * DEEPEST_NESTING + "*") is not None:
        raise DocumentInvalidError(f"HTML elements are nested deeper than {DEEPEST_NESTING}.")
    root = _main(page)
    return Page(() if root is None else _Walker(page).read(root))


def read_fragment(fragment: str) -> tuple[Block, ...]:
    """Return the blocks of a part of a page. Raises DocumentInvalidError."""
    return read_html(f"<main>{fragment}</main>").blocks


def _main(page: Document) -> Element | None:
    """Return the element to read, without what is not read in it. Inside a main element, headers and asides
    are content; without one they are repeated on each page."""
    for selector in ("main", "[role=main]", "article"):
        elements = page.select(selector)
        if len(elements) == 1:
            elements[0].remove(_DROPPED)
            return elements[0]
    body = page.find("body")
    if body is not None:
        body.remove(f"{_DROPPED}, {_DROPPED_AROUND_MAIN}")
    return body


@dataclass(frozen=True, slots=True)
class Style:
    """What the elements around say of a text."""

    shift: Shift = Shift.NONE
    is_struck: bool = False
    is_hidden: bool = False
    link: str = ""

    def run(self, text: str) -> Run:
        return Run(text, self.shift, self.is_struck, self.is_hidden, self.link)


def style_of_tag(tag: str, style: Style) -> Style:
    """Return the style of the text in an element of this tag, in text of a style."""
    if tag in _STRUCK:
        return replace(style, is_struck=True)
    return replace(style, shift=_SHIFTS[tag]) if tag in _SHIFTS else style


class _Walker:
    """Turns elements into blocks; collects runs of text until a block begins or ends."""

    def __init__(self, page: Document) -> None:
        controls = page.select(f"{_CONTROLS}, a[href^='#'], [data-target], [data-bs-target]")
        named = (control.attr(name) or "" for control in controls for name in _CONTROLLED)
        self._panels = {name.lstrip("#") for names in named for name in names.split()} - {""}
        """Ids of panels that a control opens."""
        self._older = frozenset(page.select(_OLDER))
        self._style = Style()
        self._depth = 0
        self._blocks: list[Block] = []
        self._runs: list[Run] = []

    def read(self, element: Element) -> tuple[Block, ...]:
        """Return the blocks in the element."""
        return self._read_alone(*element)

    def _flush(self) -> None:
        """End the paragraph of the collected runs."""
        runs = trimmed(self._runs)
        self._runs = []
        if runs:
            self._blocks.append(Paragraph(runs))

    def _take(self, node: Node) -> None:
        if isinstance(node, Text):
            self._runs.append(self._style.run(_SPACES.sub(" ", node.data)))
        elif isinstance(node, Element):
            outer, self._style = self._style, self._styled(node)
            self._take_element(node, node.tag)
            self._style = outer

    def _styled(self, node: Element) -> Style:
        """Return the style of the text in an element."""
        style, written = style_of_tag(node.tag, self._style), node.attr("style") or ""
        if written and (shifting := _SHIFTING.search(written)):
            style = replace(style, shift=_SHIFTS[shifting[1].lower()])
        if written and _STRIKING.search(written):
            style = replace(style, is_struck=True)
        if node.tag == "a" and (link := node.attr("href")):
            style = replace(style, link=link)
        if not style.is_hidden and self._is_hidden(node, written):
            style = replace(style, is_hidden=True)
        return style

    def _is_hidden(self, node: Element, written: str) -> bool:
        is_closed = node.tag == "dialog" and node.attr("open") is None
        if not is_closed and node.attr("hidden") is None and not (written and _HIDING.search(written)):
            return False
        return not (node.attr("id") in self._panels or _follows_control(node))

    def _take_element(self, node: Element, tag: str) -> None:
        if tag == "br":
            self._runs.append(self._style.run("\n"))
        elif self._older and node in self._older:
            self._flush()
            self._blocks.append(OlderText(self.read(node)))
        elif tag in _HEADINGS:
            self._heading(node, _HEADINGS[tag])
        elif tag == "pre":
            self._flush()
            self._blocks.append(Code(node.text))
        elif tag == "table" and node.select_one("table") is None:
            self._table(node)
        elif tag in ("ul", "ol"):
            self._list(node, is_ordered=tag == "ol")
        elif tag in ("dt", "dd"):
            self._definition(node)
        elif tag in ("button", "summary"):
            self._control(node)
        elif tag in ("input", "select", "textarea", "img"):
            self._field(node, tag)
        elif tag in _BLOCKS:  # a table that contains tables is layout
            self._flush()
            self._walk(node)
            self._flush()
        else:
            is_inline = tag in INLINE
            self._runs += [] if is_inline else [Run(" ")]
            self._walk(node)
            self._runs += [] if is_inline else [Run(" ")]

    def _walk(self, node: Element) -> None:
        for child in node:
            self._take(child)

    def _heading(self, node: Element, level: int) -> None:
        self._flush()
        runs = self._strings(node)
        if runs:
            number = _PAGE.fullmatch(str(node.attr("id") or ""))
            self._blocks.append(Heading(level, runs, place=Place("page", int(number[1])) if number else None))

    def _control(self, node: Element) -> None:
        """Add what a button or summary says where it is in a heading or opens a panel: else it is no
        content."""
        names = (name for key in _CONTROLLED for name in (node.attr(key) or "").split())
        after = next((one for one in node.next_siblings if isinstance(one, Element)), None)
        is_followed = after is not None and after.matches("[hidden], [aria-hidden]")
        if node.closest(", ".join(_HEADINGS)) is not None:
            self._walk(node)
        elif node.tag == "summary" or is_followed or any(name.lstrip("#") in self._panels for name in names):
            self._heading(node, _PANEL_HEADING)

    def _field(self, node: Element, tag: str) -> None:
        """Add what a field of a form shows."""
        kind = (node.attr("type") or "text").lower()
        if tag == "img":
            if caption := " ".join((node.attr("alt") or "").split()):
                self._runs.append(self._style.run(f" {caption} "))
        elif tag == "select":
            options = [" ".join(option.text.split()) for option in node.select("option")]
            self._runs.append(self._style.run(f" {', '.join(filter(None, options))} "))
        elif tag == "textarea":
            self._runs.append(self._style.run(f" {node.text} "))
        elif kind in ("checkbox", "radio"):
            self._runs.append(self._style.run("\u2611 " if node.attr("checked") is not None else "\u2610 "))
        elif kind not in ("hidden", "submit", "button", "reset", "image", "password"):
            self._runs.append(self._style.run(f" {node.attr('value') or ''} "))

    def _list(self, node: Element, *, is_ordered: bool) -> None:
        self._flush()
        is_reversed = node.attr("reversed") is not None
        count = sum(isinstance(child, Element) and child.tag == "li" for child in node)
        number = _number(node.attr("start"), count if is_reversed else 1)
        made: list[Item] = []
        for child in node:
            if not isinstance(child, Element) or child.tag != "li":  # it belongs to the item before
                inner = self._read_alone(child)
                if made and inner:
                    made[-1] = replace(made[-1], blocks=(*made[-1].blocks, *inner))
                elif inner:
                    made.append(Item("", inner))
                continue
            number = _number(child.attr("value"), number)
            marker = f"{_counted(number, node.attr('type') or '1')}." if is_ordered else "-"
            made.append(Item(marker, self._read_styled(child)))
            number += -1 if is_reversed else 1
        if made:
            self._blocks.append(List(tuple(made), is_ordered=is_ordered))

    def _read_styled(self, node: Element) -> tuple[Block, ...]:
        """Return the blocks in an element, by its own style too."""
        outer, self._style = self._style, self._styled(node)
        blocks = self.read(node)
        self._style = outer
        return blocks

    def _read_alone(self, *nodes: Node) -> tuple[Block, ...]:
        """Return the blocks of nodes, apart from what is around them."""
        outer = self._blocks, self._runs
        self._blocks, self._runs = [], []
        self._depth += 1
        if self._depth > _DEEPEST_BLOCKS:
            raise DocumentInvalidError(f"HTML lists are nested deeper than {_DEEPEST_BLOCKS}.")
        for node in nodes:
            self._take(node)
        self._flush()
        blocks = tuple(self._blocks)
        self._blocks, self._runs = outer
        self._depth -= 1
        return blocks

    def _definition(self, node: Element) -> None:
        self._flush()
        last = self._blocks[-1] if self._blocks else None
        if node.tag == "dt":
            self._blocks.append(Definition(self._strings(node), ()))
        elif isinstance(last, Definition):
            meaning = self.read(node)
            is_first = not last.blocks
            self._blocks[-1:] = (
                [replace(last, blocks=meaning)] if is_first else [last, Definition((), meaning)]
            )
        else:
            self._blocks.append(Definition((), self.read(node)))

    def _table(self, table: Element) -> None:
        self._flush()
        caption = table.select_one("caption")
        rows: list[tuple[Cell, ...]] = []
        header_rows, counts = 0, True
        for row in table.select("tr"):
            outer, self._style = self._style, self._styled(row)
            cells = row.select("th, td")
            if cells:
                rows.append(tuple(self._cell(cell) for cell in cells))
                parent = row.parent
                in_head = isinstance(parent, Element) and parent.tag == "thead"
                counts = counts and (in_head or all(cell.tag == "th" for cell in cells))
                header_rows += counts
            self._style = outer
        if rows:
            words = self._strings(caption) if caption is not None else ()
            self._blocks.append(Table(tuple(rows), header_rows, words))

    def _cell(self, cell: Element) -> Cell:
        rows, columns = (
            max(1, min(_number(cell.attr(name), 1), _WIDEST_SPAN)) for name in ("rowspan", "colspan")
        )
        return Cell(self._read_styled(cell), rows, columns)

    def _strings(self, element: Element) -> Runs:
        """Return the text of a heading, caption or term as runs, with a space between its blocks."""
        paragraphs = all_runs(self._read_styled(element))
        return trimmed(run for runs in paragraphs for run in (Run(" "), *runs))


def all_runs(blocks: Iterable[Block]) -> Iterator[Runs]:
    """Yield the runs of each line in the blocks."""
    for block in blocks:
        match block:
            case Heading() | Paragraph():
                yield block.runs
            case Code():
                yield (Run(block.text),)
            case List():
                yield from all_runs(inner for item in block.items for inner in item.blocks)
            case Table():
                yield from all_runs(inner for row in block.rows for cell in row for inner in cell.blocks)
            case Definition():
                yield block.term
                yield from all_runs(block.blocks)
            case Figure():
                yield block.caption
            case _:
                yield from all_runs(block.blocks)


def trimmed(runs: Iterable[Run]) -> Runs:
    """Return runs of one style joined, without empty ones, and without white space at both ends."""
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


def _follows_control(node: Element) -> bool:
    """Return whether the element is a folded panel: what stands before it is, or ends in, a control."""
    before = next((one for one in node.previous_siblings if isinstance(one, Element)), None)
    if before is None:
        return False
    return before.tag in ("button", "summary") or before.select_one(_CONTROLS) is not None


def _number(value: str | None, default: int) -> int:
    """Return a whole number of an attribute, between -9,999 and 9,999."""
    text = (value or "").strip()
    return int(text) if re.fullmatch(r"-?\d{1,4}", text) else default


def _counted(number: int, kind: str) -> str:
    """Return a number as an ordered list of this type shows it: "4", "d", "iv"."""
    if kind in ("a", "A") and number > 0:
        text = ""
        while number > 0:
            number, place = divmod(number - 1, 26)
            text = ascii_lowercase[place] + text
        return text if kind == "a" else text.upper()
    if kind in ("i", "I") and 0 < number < 4000:
        text = ""
        for value, sign in _ROMAN:
            count, number = divmod(number, value)
            text += sign * count
        return text if kind == "i" else text.upper()
    return str(number)


_ROMAN = (
    (1000, "m"),
    (900, "cm"),
    (500, "d"),
    (400, "cd"),
    (100, "c"),
    (90, "xc"),
    (50, "l"),
    (40, "xl"),
    (10, "x"),
    (9, "ix"),
    (5, "v"),
    (4, "iv"),
    (1, "i"),
)
