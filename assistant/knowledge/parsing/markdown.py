"""Reads Markdown into the page model by markdown-it-py: CommonMark with tables and struck text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore, inline
from markdown_it.tree import SyntaxTreeNode

from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.page import (
    Block,
    Cell,
    Code,
    Heading,
    Item,
    List,
    Page,
    Paragraph,
    Run,
    Runs,
    Table,
    text_of,
)
from assistant.knowledge.parsing.html import INLINE, Style, read_fragment, style_of_tag, trimmed

DEEPEST_NESTING = 100
_PARSER = MarkdownIt("commonmark", {"maxNesting": DEEPEST_NESTING}).enable(["table", "strikethrough"])
_INLINE = MarkdownIt("commonmark").enable("strikethrough")
"""Its own limit, 20, of brackets inside each other: each unclosed one is searched once a level."""


def _inline_with_own_limit(state: StateCore) -> None:
    state.md = _INLINE
    inline(state)


_PARSER.core.ruler.at("inline", _inline_with_own_limit)
_BLOCKS = MarkdownIt("commonmark").disable("inline")
_TAG = re.compile(r"<(/?)([a-z][\w-]*)", re.IGNORECASE)
_LONGEST_HEADING = 2_000


def read_markdown(content: str) -> Page:
    """Return the page; of raw HTML, what it shows.

    Raises DocumentInvalidError for lists or quotes nested deeper than DEEPEST_NESTING: the parser would omit
    their content.
    """
    tokens = _PARSER.parse(content)
    if any(token.level >= DEEPEST_NESTING - 1 for token in tokens):
        raise DocumentInvalidError(f"Markdown is nested deeper than {DEEPEST_NESTING}.")
    return Page(tuple(_blocks(SyntaxTreeNode(tokens).children)))


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
    (tokens,) = _PARSER.parseInline(line[:_LONGEST_HEADING])
    return " ".join(text_of(_runs(SyntaxTreeNode([tokens]).children[0].children)).split())


def _blocks(nodes: Iterable[SyntaxTreeNode]) -> Iterator[Block]:
    for node in nodes:
        match node.type:
            case "heading":
                yield Heading(int(node.tag[1:]), _line(node))
            case "paragraph":
                yield Paragraph(_line(node))
            case "fence" | "code_block":
                yield Code(node.content)
            case "html_block":
                yield from read_fragment(node.content)
            case "bullet_list":
                yield List(tuple(Item("-", tuple(_blocks(item.children))) for item in node.children))
            case "ordered_list":
                yield List(tuple(_numbered(node)), is_ordered=True)
            case "table":
                yield _table(node)
            case _:  # a quote
                yield from _blocks(node.children)


def _numbered(node: SyntaxTreeNode) -> Iterator[Item]:
    for number, item in enumerate(node.children, start=int(node.attrs.get("start") or 1)):
        yield Item(f"{number}.", tuple(_blocks(item.children)))


def _table(node: SyntaxTreeNode) -> Table:
    rows = (row for part in node.children for row in part.children)
    return Table(
        tuple(tuple(Cell((Paragraph(_line(cell)),)) for cell in row.children) for row in rows), header_rows=1
    )


def _line(node: SyntaxTreeNode) -> Runs:
    return trimmed(_runs(child for inline_node in node.children for child in inline_node.children))


def _runs(nodes: Iterable[SyntaxTreeNode], style: Style | None = None) -> Iterator[Run]:
    """Yield the text of inline nodes. Tags of raw HTML change its style until they end; most others separate
    words: cells of tables hold ``<br>`` and ``<li>``."""
    style = style or Style()
    opened: list[tuple[str, Style]] = []
    for node in nodes:
        match node.type:
            case "text" | "code_inline":
                yield style.run(node.content)
            case "image":
                yield style.run(node.content or "".join(child.content for child in node.children))
            case "softbreak":
                yield style.run(" ")
            case "hardbreak":
                yield style.run("\n")
            case "link":
                yield from _runs(node.children, replace(style, link=str(node.attrs["href"])))
            case "s":
                yield from _runs(node.children, replace(style, is_struck=True))
            case "html_inline":
                tag = _TAG.match(node.content)
                name = tag[2].lower() if tag else ""
                if tag and tag[1] and opened and opened[-1][0] == name:
                    style = opened.pop()[1]
                elif tag and not tag[1] and (changed := style_of_tag(name, style)) != style:
                    opened.append((name, style))
                    style = changed
                elif tag and name not in INLINE:
                    yield style.run("\n")
            case _:
                yield from _runs(node.children, style)
