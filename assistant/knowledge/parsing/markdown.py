"""Parses Markdown by markdown-it-py: CommonMark with tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore, inline
from markdown_it.token import Token

from assistant.domain.documents import ParsedDocument, UnitKind
from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.parsing.html import INLINE, html_text
from assistant.knowledge.parsing.text import LINK_END, TextBuilder, link_begin, read_links

DEEPEST_NESTING = 100
_PARSER = MarkdownIt("commonmark", {"maxNesting": DEEPEST_NESTING}).enable("table")
_INLINE = MarkdownIt("commonmark")
"""Its own limit, 20, of brackets inside each other: each unclosed one is searched once a level."""


def _inline_with_own_limit(state: StateCore) -> None:
    state.md = _INLINE
    inline(state)


_PARSER.core.ruler.at("inline", _inline_with_own_limit)
_BLOCKS = MarkdownIt("commonmark").disable("inline")
_TAG = re.compile(r"</?([a-z][\w-]*)", re.IGNORECASE)
_LONGEST_HEADING = 2_000
_OWN_TEXT = ("text", "code_inline", "image")
_SHOWN = {"softbreak": " ", "hardbreak": "\n", "link_close": LINK_END}
"""Inline tokens that are part of the text: by their own content, and as what they are shown."""


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


def first_heading(content: str) -> str | None:
    """Return the text of the first heading of the highest level; None without headings.

    Only blocks are parsed, not what is in them: a hostile body must not cost the parsing time twice.
    """
    found = [
        (opened.tag, text)
        for opened, line in pairwise(_BLOCKS.parse(content))
        if opened.type == "heading_open" and opened.level == 0 and (text := _heading_text(line.content))
    ]
    return min(found, key=lambda heading: heading[0])[1] if found else None


def _heading_text(line: str) -> str:
    """Return the text of a heading without markup for emphasis, links and code."""
    (inline,) = _PARSER.parseInline(line[:_LONGEST_HEADING])
    return read_links(_inline_text(inline.children or ()))[0].replace("\n", " ")


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
                self._builder.table(self._table or [], has_header=True, depth=len(self._items) + 1)
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
    """Return the text, with marks around the words of links."""
    return "".join(map(_shown, children))


def _shown(child: Token) -> str:
    """Return the text of an inline token. Most tags of raw HTML separate words: cells of tables hold ``<br>``
    and ``<li>``."""
    if child.type == "link_open":
        return link_begin(str(child.attrs["href"]))
    if child.type != "html_inline":
        return child.content if child.type in _OWN_TEXT else _SHOWN.get(child.type, "")
    tag = _TAG.match(child.content)
    if tag is None or tag[1].lower() in INLINE:
        return ""
    return "\n" if tag[1].lower() == "br" else " "
