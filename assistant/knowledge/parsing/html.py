"""Reads HTML into the page model by turbohtml: the main content, without repeated parts of a page.

Elements that the page hides are read and marked, but for panels that a button opens: these are content.
"""

from __future__ import annotations

import re
from collections import Counter
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
    Loss,
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
_COUNTING = re.compile(r"list-style(?:-type)?\s*:[^;]*\b(lower|upper)-(alpha|latin|roman)\b", re.I)
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
_NO_ANSWER = ("hidden", "submit", "button", "reset", "image", "password", "file")
"""Inputs that show no value."""
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
    walker, root = _Walker(page), _main(page)
    return Page(()) if root is None else walker.page(root)


def read_fragment(fragment: str) -> Page:
    """Return a part of a page. Raises DocumentInvalidError."""
    return read_html(f"<main>{fragment}</main>")


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


def _style_of_tag(tag: str, style: Style) -> Style:
    """Return the style of the text in an element of this tag, in text of a style."""
    if tag in _STRUCK:
        return replace(style, is_struck=True)
    return replace(style, shift=_SHIFTS[tag]) if tag in _SHIFTS else style


def style_after(markup: str, style: Style) -> Style:
    """Return the style of the text after a tag as written, in text of a style."""
    element = parse(markup).select_one("body > *")
    if element is None:
        return style
    style, look = _style_of_tag(element.tag, style), _look(element.attr("style") or "")
    is_hidden = style.is_hidden or look.is_hidden or element.attr("hidden") is not None
    return replace(
        style,
        shift=look.shift or style.shift,
        is_struck=style.is_struck or look.is_struck,
        is_hidden=is_hidden,
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """What CSS says of an element."""

    shift: Shift = Shift.NONE
    is_struck: bool = False
    is_hidden: bool = False


def _look(declarations: str) -> _Look:
    shifting = _SHIFTING.search(declarations)
    shift = _SHIFTS[shifting[1].lower()] if shifting else Shift.NONE
    return _Look(shift, _STRIKING.search(declarations) is not None, _HIDING.search(declarations) is not None)


def _looks_of_classes(page: Document) -> dict[str, _Look]:
    """Return what the page's own style sheets say of a class alone, where it matters: ".old {…}"."""
    looks: dict[str, _Look] = {}
    for sheet in page.select("style"):
        depth = 0
        for rule in sheet.text.split("}"):
            selectors, _, declarations = rule.rpartition("{")
            if depth == 0 and "{" not in selectors and (look := _look(declarations)) != _Look():
                names = (selector.strip().rpartition(".") for selector in selectors.split(","))
                looks |= {
                    name: look
                    for tag, dot, name in names
                    if dot and f"{tag}{name}".replace("-", "").isalnum()
                }
            depth = max(0, depth + rule.count("{") - 1)
    return looks


class _Walker:
    """Turns elements into blocks; collects runs of text until a block begins or ends."""

    def __init__(self, page: Document) -> None:
        self._classes = _looks_of_classes(page)
        self._looks: dict[tuple[int, int] | None, _Look] = {}
        """By place: the parser repeats an element that is not closed, with its style."""
        self._panels = set[str]()
        """Ids of panels that a control opens."""
        self._names: dict[str, str] = {}
        """What the control says that opens a panel, where no heading has it, by the panel's id."""
        for control in page.select(f"{_CONTROLS}, {', '.join(f'[{name}]' for name in _CONTROLLED)}"):
            panels = _panels_of(control)
            self._panels |= panels
            if _is_control(control) and control.closest(", ".join(("summary", *_HEADINGS))) is None:
                self._names |= dict.fromkeys(panels, " ".join(control.text.split()))
        if self._names:
            self._names = {
                name: self._names[name]
                for element in page.select("[id]")
                if (name := element.attr("id") or "") in self._names
            }
        self._lost: Counter[str] = Counter()
        self._older = frozenset(page.select(_OLDER))
        self._style = Style()
        self._depth = 0
        self._blocks: list[Block] = []
        self._runs: list[Run] = []

    def page(self, element: Element) -> Page:
        """Return the page of its main element."""
        blocks = self.read(element)
        return Page(blocks, losses=tuple(Loss(what, words=words) for what, words in self._lost.items()))

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
        style = _style_of_tag(node.tag, self._style)
        for look in self._all_looks(node):
            style = replace(
                style, shift=look.shift or style.shift, is_struck=style.is_struck or look.is_struck
            )
        if node.tag == "a" and (link := node.attr("href")):
            style = replace(style, link=link)
        if not style.is_hidden and self._hides(node):
            is_panel = node.attr("id") in self._panels or _follows_control(node)
            style = replace(style, is_hidden=not is_panel)
        return style

    def _all_looks(self, node: Element) -> Iterator[_Look]:
        if self._classes:
            yield from (
                self._classes[name] for name in (node.attr("class") or "").split() if name in self._classes
            )
        if node.attr("style"):
            place = node.position
            if place not in self._looks:
                self._looks[place] = _look(node.attr("style") or "")
            yield self._looks[place]

    def _hides(self, node: Element) -> bool:
        is_closed = node.tag == "dialog" and node.attr("open") is None
        return (
            is_closed
            or node.attr("hidden") is not None
            or any(look.is_hidden for look in self._all_looks(node))
        )

    def _take_element(self, node: Element, tag: str) -> None:
        if self._names and (name := self._names.get(node.attr("id") or "")):
            self._flush()
            self._blocks.append(Heading(_PANEL_HEADING, (self._style.run(name),)))
        if tag == "br":
            self._runs.append(self._style.run("\n"))
        elif _is_control(node):
            self._control(node)
        elif self._older and node in self._older:
            self._flush()
            self._blocks.append(OlderText(self.read(node)))
        elif tag in _HEADINGS or node.attr("role") == "heading":
            self._heading(node, _HEADINGS.get(tag) or min(6, max(1, _number(node.attr("aria-level"), 2))))
        elif tag == "pre":
            self._flush()
            self._blocks.append(Code(node.text))
        elif tag == "table" and not _is_layout(node):
            self._table(node)
        elif tag == "math":
            self._runs.append(self._style.run(f" {_linear(node)} "))
        elif tag in ("rp", "rt"):
            self._runs.append(self._style.run(f" ({node.text})" if tag == "rt" else ""))
        elif tag in ("ul", "ol"):
            self._list(node, is_ordered=tag == "ol")
        elif tag in ("dt", "dd"):
            self._definition(node)
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
        """Add what a control says where it is in a heading or opens a panel: else it is no content. Where the
        panel has an id, the control's words are the heading of the panel."""
        after = next((one for one in node.next_siblings if isinstance(one, Element)), None)
        if node.closest(", ".join(_HEADINGS)) is not None:
            self._walk(node)
        elif not self._names.keys().isdisjoint(_panels_of(node)):
            return
        elif (
            node.tag == "summary"
            or node.attr("aria-expanded") is not None
            or (after is not None and (after.attr("aria-hidden") is not None or self._hides(after)))
        ):
            self._heading(node, _PANEL_HEADING)
        elif node.tag != "button":  # a link or text that only looks like one
            self._walk(node)
        elif words := len(node.text.split()):
            self._lost["words of buttons"] += words

    def _field(self, node: Element, tag: str) -> None:
        """Add what a field of a form shows."""
        kind = (node.attr("type") or "text").lower()
        if tag == "img":
            caption = node.attr("alt")
            if caption is None:
                self._lost["pictures without text"] += 0
            self._runs.append(self._style.run(f" {' '.join((caption or '').split())} "))
        elif tag == "select":
            options = node.select("option[selected]") or node.select("option")
            shown = filter(None, (" ".join(option.text.split()) for option in options))
            self._runs.append(self._style.run(f" {', '.join(shown)} "))
        elif tag == "textarea":
            self._runs.append(self._style.run(f" {node.text} "))
        elif kind in ("checkbox", "radio"):
            self._runs.append(self._style.run("\u2611 " if node.attr("checked") is not None else "\u2610 "))
        elif kind not in _NO_ANSWER:
            self._runs.append(self._style.run(f" {node.attr('value') or ''} "))

    def _list(self, node: Element, *, is_ordered: bool) -> None:
        self._flush()
        is_reversed = node.attr("reversed") is not None
        count = sum(isinstance(child, Element) and child.tag == "li" for child in node)
        number = _number(node.attr("start"), count if is_reversed else 1)
        counting = _COUNTING.search(node.attr("style") or "")
        kind = node.attr("type") or "1"
        if counting:
            kind = "i" if counting[2].lower() == "roman" else "a"
            kind = kind.upper() if counting[1].lower() == "upper" else kind
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
            marker = f"{_counted(number, child.attr('type') or kind)}." if is_ordered else "-"
            if blocks := self._read_styled(child):
                made.append(Item(marker, blocks))
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
        if node.tag == "dt":
            self._blocks.append(Definition(self._strings(node), ()))
            return
        terms: list[Runs] = []
        while self._blocks and isinstance(last := self._blocks[-1], Definition) and not last.blocks:
            terms.insert(0, last.term)
            del self._blocks[-1]
        term = trimmed(run for runs in terms for run in (*runs, Run(", "))) if terms else ()
        term = (*term[:-1], replace(term[-1], text=term[-1].text.removesuffix(","))) if term else ()
        self._blocks.append(Definition(term, self.read(node)))

    def _table(self, table: Element) -> None:
        self._flush()
        caption = table.select_one("caption")
        rows: list[tuple[Cell, ...]] = []
        labels: list[str] = []
        header_rows, counts = 0, True
        for row in table.select("tr"):
            outer, parent = self._style, row.parent
            part = parent.tag if isinstance(parent, Element) else ""
            if isinstance(parent, Element) and part in ("thead", "tbody", "tfoot"):
                self._style = self._styled(parent)
            self._style = self._styled(row)
            cells = row.select("th, td")
            if cells:
                rows.append(tuple(self._cell(cell) for cell in cells))
                is_named = any(cell.tag == "th" for cell in cells)
                counts = counts and (
                    part == "thead"
                    or (is_named and all(cell.tag == "th" or not cell.text.strip() for cell in cells))
                )
                header_rows += counts and not self._style.is_hidden
                labels = labels if any(labels) else [cell.attr("data-label") or "" for cell in cells]
            self._style = outer
        if any(labels) and not header_rows:
            rows.insert(0, tuple(Cell((Paragraph((Run(label),)),) if label else ()) for label in labels))
            header_rows = 1
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


def _is_control(node: Element) -> bool:
    return node.tag in ("button", "summary") or node.attr("role") in ("button", "tab")


def _panels_of(control: Element) -> set[str]:
    """Return the ids of the panels that an element opens."""
    named = (name for key in _CONTROLLED for name in (control.attr(key) or "").split())
    return {
        name.removeprefix("#") for name in named if name.startswith("#") or control.attr("aria-controls")
    } - {""}


def _is_layout(table: Element) -> bool:
    """Return whether a table only places parts of the page."""
    if table.attr("role") in ("presentation", "none") or table.select_one("table, h1, h2, h3, h4, h5, h6"):
        return True
    rows = table.select("tr")
    return table.select_one("th, caption, [data-label]") is None and all(
        len(row.select("td")) <= 1 for row in rows
    )


_SIGNS = {"msup": "^", "mover": "^", "msub": "_", "munder": "_", "mfrac": "/"}
"""Between the two parts of an element of MathML."""


def _linear(node: Element) -> str:
    """Return a formula of MathML on one line: "(a + b)/c", "x^2"."""
    if node.tag in ("annotation", "annotation-xml"):
        return ""
    elements = [child for child in node if isinstance(child, Element)]
    if not elements:
        text = " ".join(node.text.split())
        return (
            f" {text} "
            if node.tag == "mo" and len(text) == 1 and text not in "()[]{}|,!\u2061\u2062"
            else text
        )
    parts = [part for part in map(_linear, elements) if part]
    if node.tag in _SIGNS and len(parts) == 2:
        return f"{_grouped(parts[0])}{_SIGNS[node.tag]}{_grouped(parts[1])}"
    if node.tag in ("msubsup", "munderover") and len(parts) == 3:
        return f"{_grouped(parts[0])}_{_grouped(parts[1])}^{_grouped(parts[2])}"
    if node.tag == "mroot" and len(parts) == 2:
        return f"{_grouped(parts[0])}^(1/{_grouped(parts[1])})"
    joined = {"mtable": "; ", "mtr": ", ", "mfenced": ", "}.get(node.tag, "").join(parts)
    return {"msqrt": f"\u221a({joined})", "mfenced": f"({joined})"}.get(node.tag, joined)


def _grouped(part: str) -> str:
    return part if part.replace(".", "").isalnum() else f"({part})"


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
