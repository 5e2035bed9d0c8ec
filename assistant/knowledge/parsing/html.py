"""Parses HTML by selectolax: the main content, without repeated parts of a page and without hidden
elements."""

from __future__ import annotations

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from assistant.domain.documents import ParsedDocument, UnitKind
from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.parsing.text import TextBuilder, table_lines

DEEPEST_NESTING = 200
_UNSEEN = frozenset(["script", "style", "noscript", "template", "svg", "iframe", "object", "head"])
_DROPPED = _UNSEEN | {"nav", "dialog", "button", "select", "textarea"}
_DROPPED_AROUND_MAIN = frozenset(["header", "footer", "aside"])
_DROPPED_ROLES = frozenset(["navigation", "banner", "contentinfo", "search", "complementary"])
_HIDING_STYLE = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])|opacity\s*:\s*0(?![.\d])", re.I
)
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_TEXT_BLOCKS = frozenset(["p", "blockquote", "address", "figure", "figcaption", "dl", "hr", "center"])
_PARTS = {"body", "main", "article", "section", "div", "header", "footer", "aside", "form", "fieldset"}
_BLOCKS = _TEXT_BLOCKS | _PARTS | {"hgroup", "details", "summary", "tbody"}
_PHRASES = {"a", "abbr", "cite", "code", "em", "kbd", "mark", "q", "s", "samp", "span", "strong", "var"}
_INLINE = _PHRASES | {"b", "font", "i", "small", "sub", "sup", "u", "wbr"}


def parse_html(content: str) -> ParsedDocument:
    """Return the main content's text with its headings; an empty document without content.

    Raises DocumentInvalidError for elements nested deeper than DEEPEST_NESTING.
    """
    root, dropped = _main(LexborHTMLParser(content))
    builder = TextBuilder()
    if root is not None:
        walker = _Walker(builder, dropped)
        walker.walk(root)
        walker.flush()
    return builder.build()


def html_text(fragment: str) -> str:
    """Return the visible text of an HTML fragment. Raises DocumentInvalidError."""
    return parse_html(f"<main>{fragment}</main>").text


def _main(tree: LexborHTMLParser) -> tuple[LexborNode | None, frozenset[str]]:
    """Return the element to read and the tags to skip in it. Inside a main element, headers and asides are
    content; without one they are repeated on each page."""
    for selector in ("main", "[role=main]", "article"):
        found = tree.css(selector)
        if len(found) == 1:
            return found[0], _DROPPED
    return tree.body, _DROPPED | _DROPPED_AROUND_MAIN


def _seen_children(node: LexborNode, dropped: frozenset[str]) -> Iterator[LexborNode]:
    for child in node.iter(include_text=True):
        attributes = child.attributes if child.is_element_node else {}
        hidden = "hidden" in attributes or attributes.get("aria-hidden") == "true"
        hidden = hidden or child.tag in dropped or attributes.get("role") in _DROPPED_ROLES
        if not hidden and not _HIDING_STYLE.search(attributes.get("style") or ""):
            yield child


class _Walker:
    """Adds elements to a TextBuilder; collects inline text until a block begins or ends."""

    def __init__(self, builder: TextBuilder, dropped: frozenset[str]) -> None:
        self._builder = builder
        self._dropped = dropped
        self._inline: list[str] = []
        self._marker = ""
        self._item_kind: UnitKind | None = None
        """The kind of the current list item; None outside lists."""
        self._list_depth = 0
        self._term = ""
        """The last term of a definition list, until its definition follows."""
        self._depth = 0

    def walk(self, node: LexborNode) -> None:
        self._depth += 1
        if self._depth > DEEPEST_NESTING:
            raise DocumentInvalidError(f"HTML elements are nested deeper than {DEEPEST_NESTING}.")
        for child in _seen_children(node, self._dropped):
            self._take(child, child.tag or "")
        self._depth -= 1

    def flush(self) -> None:
        """Add the collected inline text as a block."""
        text = "".join(self._inline)
        self._inline.clear()
        if not text.strip():
            return
        if self._item_kind is not None and self._marker:
            self._builder.line(self._marker + text.strip(), kind=self._item_kind, depth=self._list_depth)
            self._marker = ""
        elif self._item_kind is not None:  # a further paragraph of the item
            self._builder.line(text.strip(), kind=UnitKind.SENTENCE, depth=self._list_depth + 1)
        else:
            self._builder.block(text)

    def _take(self, node: LexborNode, tag: str) -> None:
        if tag == "-text":
            self._inline.append(re.sub(r"\s+", " ", node.text_content or ""))
        elif tag == "br":
            self._inline.append("\n")
        elif tag in _HEADINGS:
            self.flush()
            self._builder.heading(_HEADINGS[tag], self._text(node))
        elif tag == "pre":
            self.flush()
            self._builder.block(self._text(node))
        elif tag == "table" and len(node.css("table")) == 1:
            self._table(node)
        elif tag in ("ul", "ol"):
            self._list(node, ordered=tag == "ol")
        elif tag in ("dt", "dd"):
            self._definition(node, tag)
        elif tag in _BLOCKS or tag in ("table", "tr", "td", "th"):  # a table that contains tables is layout
            self.flush()
            self.walk(node)
            self.flush()
        else:
            self.walk(node)

    def _list(self, node: LexborNode, *, ordered: bool) -> None:
        self.flush()
        outer = self._item_kind, self._marker
        self._list_depth += 1
        number = 0
        for child in _seen_children(node, self._dropped):
            if child.tag == "li":
                number += 1
                self._item_kind = UnitKind.STEP if ordered else UnitKind.ITEM
                self._marker = f"{number}. " if ordered else "- "
                self.walk(child)
                self.flush()
            else:
                self._take(child, child.tag or "")
        self._list_depth -= 1
        self._item_kind, self._marker = outer
        if self._item_kind is None:
            self._builder.gap()

    def _definition(self, node: LexborNode, tag: str) -> None:
        self.flush()
        text = self._text(node).strip()
        if tag == "dt":
            self._term = text
        elif text:
            joined = f"{self._term.rstrip(':')}: {text}" if self._term else text
            self._builder.line(joined, kind=UnitKind.DEFINITION, depth=self._list_depth + 1)
            self._builder.gap()
            self._term = ""

    def _table(self, table: LexborNode) -> None:
        self.flush()
        for caption in table.css("caption"):
            self._builder.block(self._text(caption))
        rows = [row.css("th, td") for row in table.css("tr")]
        texts = [[self._text(cell) for cell in row] for row in rows if row]
        has_header = bool(rows and rows[0]) and all(cell.tag == "th" for cell in rows[0])
        for line in table_lines(texts, has_header=has_header):
            self._builder.line(line, kind=UnitKind.ROW, depth=self._list_depth + 1)
        self._builder.gap()

    def _text(self, node: LexborNode) -> str:
        """Return the visible text of a heading, a cell or preformatted lines. Raises DocumentInvalidError."""
        self._depth += 1
        if self._depth > DEEPEST_NESTING:
            raise DocumentInvalidError(f"HTML elements are nested deeper than {DEEPEST_NESTING}.")
        parts: list[str] = []
        for child in _seen_children(node, self._dropped):
            if child.tag == "-text":
                parts.append(child.text_content or "")
            elif child.tag == "br":
                parts.append("\n")
            else:
                around = "" if child.tag in _INLINE else " "
                parts.append(around + self._text(child) + around)
        self._depth -= 1
        return "".join(parts)
