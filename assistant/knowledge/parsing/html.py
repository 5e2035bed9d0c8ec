"""Parses HTML by turbohtml: the main content, without repeated parts of a page and without hidden
elements."""

from __future__ import annotations

import re
from collections.abc import Iterator

from turbohtml import Document, Element, Node, Text, parse

from assistant.domain.documents import ParsedDocument, UnitKind
from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.parsing.text import LINK_END, TextBuilder, link_begin, unmarked

DEEPEST_NESTING = 200
"""Elements around an element, and itself, in a page that is parsed. The parser itself stops at 512."""
_TOO_DEEP = "* > " * DEEPEST_NESTING + "*"
_UNSEEN = "script, style, noscript, svg, iframe, object, [hidden], [aria-hidden=true]"
_ROLES = "[role=navigation], [role=banner], [role=contentinfo], [role=search], [role=complementary]"
_DROPPED = f"{_UNSEEN}, nav, dialog, button, select, textarea, {_ROLES}"
_DROPPED_AROUND_MAIN = "header, footer, aside"
_HIDING_STYLE = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])|opacity\s*:\s*0(?![.\d])", re.I
)
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_PAGE = re.compile(r"page-(\d{1,5})")
"""The anchor of a page's heading, as ``conversion`` writes it."""
_TEXT_BLOCKS = frozenset(["p", "blockquote", "address", "figure", "figcaption", "dl", "hr", "center"])
_PARTS = {"body", "main", "article", "section", "div", "header", "footer", "aside", "form", "fieldset"}
_BLOCKS = _TEXT_BLOCKS | _PARTS | {"hgroup", "details", "summary", "tbody"}
_PHRASES = {"a", "abbr", "cite", "code", "em", "kbd", "mark", "q", "s", "samp", "span", "strong", "var"}
INLINE = _PHRASES | {"b", "font", "i", "small", "sub", "sup", "u", "wbr"}
"""Elements that do not separate words."""


def parse_html(content: str) -> ParsedDocument:
    """Return the main content's text with its headings; an empty document without content.

    Raises DocumentInvalidError for elements nested deeper than DEEPEST_NESTING.
    """
    page = parse(content).remove("template")  # a selector would match inside it
    if page.select_one(_TOO_DEEP) is not None:
        raise DocumentInvalidError(f"HTML elements are nested deeper than {DEEPEST_NESTING}.")
    builder = TextBuilder()
    root = _main(page)
    if root is not None:
        walker = _Walker(builder)
        walker.walk(root)
        walker.flush()
    return builder.build()


def html_text(fragment: str) -> str:
    """Return the visible text of an HTML fragment. Raises DocumentInvalidError."""
    return parse_html(f"<main>{fragment}</main>").text


def _main(page: Document) -> Element | None:
    """Return the element to read, without what is not read in it. Inside a main element, headers and asides
    are content; without one they are repeated on each page."""
    for selector in ("main", "[role=main]", "article"):
        elements = page.select(selector)
        if len(elements) == 1:
            return _without_hidden(elements[0], _DROPPED)
    body = page.find("body")
    return None if body is None else _without_hidden(body, f"{_DROPPED}, {_DROPPED_AROUND_MAIN}")


def _without_hidden(root: Element, dropped: str) -> Element:
    root.remove(dropped)
    hides: dict[tuple[int, int] | None, bool] = {}
    for element in root.select("[style]"):
        place = element.position  # the parser repeats an element that is not closed, with its style
        if place not in hides:
            hides[place] = _HIDING_STYLE.search(element.attr("style") or "") is not None
        if hides[place]:
            element.decompose()
    return root


def _text(element: Element) -> str:
    """Return the text of a heading, a cell or preformatted lines."""
    return "".join(_strings(element))


def _strings(element: Element) -> Iterator[str]:
    for child in element:
        if isinstance(child, Text):
            yield child.data
        elif isinstance(child, Element) and child.tag == "br":
            yield "\n"
        elif isinstance(child, Element):
            around = "" if child.tag in INLINE else " "
            begin, end = _marks(child)
            yield around + begin
            yield from _strings(child)
            yield end + around


def _marks(element: Element) -> tuple[str, str]:
    """Return what is put before and after the words of a link, and nothing around other elements."""
    address = element.attr("href") if element.tag == "a" else None
    return (link_begin(address), LINK_END) if address and element.text.strip() else ("", "")


class _Walker:
    """Adds elements to a TextBuilder; collects inline text until a block begins or ends."""

    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._inline: list[str] = []
        self._marker = ""
        self._item_kind: UnitKind | None = None
        """The kind of the current list item; None outside lists."""
        self._list_depth = 0
        self._term = ""
        """The last term of a definition list, until its definition follows."""

    def walk(self, element: Element) -> None:
        for child in element:
            self._take(child)

    def flush(self) -> None:
        """Add the collected inline text as a block."""
        text = "".join(self._inline)
        self._inline.clear()
        if not unmarked(text).strip():
            return
        if self._item_kind is not None and self._marker:
            self._builder.line(self._marker + text.strip(), kind=self._item_kind, depth=self._list_depth)
            self._marker = ""
        elif self._item_kind is not None:  # a further paragraph of the item
            self._builder.line(text.strip(), kind=UnitKind.SENTENCE, depth=self._list_depth + 1)
        else:
            self._builder.block(text)

    def _take(self, node: Node) -> None:
        if isinstance(node, Text):
            self._inline.append(re.sub(r"\s+", " ", node.data))
        elif isinstance(node, Element):
            self._take_element(node, node.tag)

    def _take_element(self, node: Element, tag: str) -> None:
        if tag == "br":
            self._inline.append("\n")
        elif tag in _HEADINGS:
            self._heading(node)
        elif tag == "pre":
            self.flush()
            self._builder.block(_text(node))
        elif tag == "table" and node.select_one("table") is None:
            self._table(node)
        elif tag in ("ul", "ol"):
            self._list(node, ordered=tag == "ol")
        elif tag in ("dt", "dd"):
            self._definition(node)
        elif tag in _BLOCKS or tag in ("table", "tr", "td", "th"):  # a table that contains tables is layout
            self.flush()
            self.walk(node)
            self.flush()
        else:
            begin, end = _marks(node)
            self._inline.append(begin)
            self.walk(node)
            self._inline.append(end)

    def _heading(self, node: Element) -> None:
        self.flush()
        if page := _PAGE.fullmatch(str(node.attr("id") or "")):
            self._builder.page(int(page[1]))
        self._builder.heading(_HEADINGS[node.tag], _text(node))

    def _list(self, node: Element, *, ordered: bool) -> None:
        self.flush()
        outer = self._item_kind, self._marker
        self._list_depth += 1
        number = 0
        for child in node:
            if isinstance(child, Element) and child.tag == "li":
                number += 1
                self._item_kind = UnitKind.STEP if ordered else UnitKind.ITEM
                self._marker = f"{number}. " if ordered else "- "
                self.walk(child)
                self.flush()
            else:
                self._take(child)
        self._list_depth -= 1
        self._item_kind, self._marker = outer
        if self._item_kind is None:
            self._builder.gap()

    def _definition(self, node: Element) -> None:
        self.flush()
        text = _text(node).strip()
        if node.tag == "dt":
            self._term = unmarked(text)
        elif text:
            joined = f"{self._term.rstrip(':')}: {text}" if self._term else text
            self._builder.line(joined, kind=UnitKind.DEFINITION, depth=self._list_depth + 1)
            self._builder.gap()
            self._term = ""

    def _table(self, table: Element) -> None:
        self.flush()
        for caption in table.select("caption"):
            self._builder.block(_text(caption))
        rows = [row.select("th, td") for row in table.select("tr")]
        texts = [[_text(cell) for cell in row] for row in rows if row]
        has_header = bool(rows and rows[0]) and all(cell.tag == "th" for cell in rows[0])
        self._builder.table(texts, has_header=has_header, depth=self._list_depth + 1)
