"""Parses Markdown by markdown-it-py: CommonMark with tables."""

from __future__ import annotations

from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from assistant.domain.documents import ParsedDocument, UnitKind
from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.parsing.html import html_text
from assistant.knowledge.parsing.text import TextBuilder, normalize, table_lines

DEEPEST_NESTING = 100
_PARSER = MarkdownIt("commonmark", {"maxNesting": DEEPEST_NESTING}).enable("table")
_SHOWN = {"text": None, "code_inline": None, "image": None, "softbreak": " ", "hardbreak": "\n"}
"""Inline tokens that are part of the text: as what they are shown, None for their own content."""


def parse_markdown(content: str) -> ParsedDocument:
    """Return the text with its headings; of raw HTML, the visible text.

    Raises DocumentInvalidError for lists or quotes nested deeper than DEEPEST_NESTING: the parser would omit
    their content.
    """
    builder = TextBuilder()
    walker = _Walker(builder)
    for token in _PARSER.parse(content):
        if token.level >= DEEPEST_NESTING - 1:
            raise DocumentInvalidError(f"Markdown is nested deeper than {DEEPEST_NESTING}.")
        walker.take(token)
    return builder.build()


def heading_text(line: str) -> str:
    """Return the text of one line without markup for emphasis, links and code."""
    (inline,) = _PARSER.parseInline(line)
    return normalize(_inline_text(inline.children or ()))


class _Walker:
    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._heading_level = 0
        self._items: list[str] = []
        """Markers of the open list items, outermost first. The first line of an item uses up its marker."""
        self._ordered: list[int | None] = []
        self._table: list[list[str]] | None = None

    def take(self, token: Token) -> None:
        match token.type:
            case "heading_open":
                self._heading_level = int(token.tag[1:])
            case "inline":
                self._inline(_inline_text(token.children or ()))
            case "fence" | "code_block":
                self._body(token.content)
            case "html_block":
                self._body(html_text(token.content))
            case "bullet_list_open":
                self._ordered.append(None)
            case "ordered_list_open":
                self._ordered.append(int(token.attrGet("start") or 1))
            case "bullet_list_close" | "ordered_list_close":
                self._ordered.pop()
                if not self._ordered:
                    self._builder.gap()
            case "list_item_open":
                self._items.append(self._marker())
            case "list_item_close":
                self._items.pop()
            case "table_open":
                self._table = []
            case "tr_open" if self._table is not None:
                self._table.append([])
            case "table_close":
                for line in table_lines(self._table or [], has_header=True):
                    self._builder.line(line, kind=UnitKind.ROW, depth=len(self._items) + 1)
                self._builder.gap()
                self._table = None
            case _:
                pass

    def _inline(self, text: str) -> None:
        if self._table:
            self._table[-1].append(text)
        elif self._heading_level:
            self._builder.heading(self._heading_level, text)
            self._heading_level = 0
        else:
            self._body(text)

    def _body(self, text: str) -> None:
        if not self._items:
            self._builder.block(text)
            return
        marker, self._items[-1] = self._items[-1], ""
        if marker:
            kind = UnitKind.ITEM if self._ordered[-1] is None else UnitKind.STEP
            self._builder.line(marker + text, kind=kind, depth=len(self._items))
        else:  # a further paragraph of the item
            self._builder.line(text, kind=UnitKind.SENTENCE, depth=len(self._items) + 1)

    def _marker(self) -> str:
        number = self._ordered[-1]
        if number is None:
            return "- "
        self._ordered[-1] = number + 1
        return f"{number}. "


def _inline_text(children: Sequence[Token]) -> str:
    shown = (child for child in children if child.type in _SHOWN)
    return "".join(_SHOWN[child.type] or child.content for child in shown)
