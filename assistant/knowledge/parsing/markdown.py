"""Reads Markdown into the page model by markdown-it-py: CommonMark with tables and struck text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
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
    Loss,
    Note,
    Page,
    Paragraph,
    Run,
    Runs,
    Shift,
    Table,
    text_of,
)
from assistant.knowledge.parsing.html import INLINE, Style, all_runs, read_fragment, style_after, trimmed

DEEPEST_NESTING = 100
_PARSER = MarkdownIt("commonmark", {"maxNesting": DEEPEST_NESTING}).enable(["table", "strikethrough"])
_INLINE = MarkdownIt("commonmark").enable("strikethrough")
"""Its own limit, 20, of brackets inside each other: each unclosed one is searched once a level."""


def _inline_with_own_limit(state: StateCore) -> None:
    state.md = _INLINE
    inline(state)


_PARSER.core.ruler.at("inline", _inline_with_own_limit)
_STYLED = re.compile(r"hidden|style|href|<(?:del|s|strike|sub|sup)\b", re.IGNORECASE)
_EMPTY = re.compile(r"p|area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr")
"""Elements that have no end, or end with the paragraph of Markdown."""


def _is_row(line: str) -> bool:
    """Return whether a line looks like a row of a table: "Aspirin | $0.02", "Monday: 9 to 5"."""
    if "|" in line or "\t" in line:
        return True
    is_short = len(line.split()) <= _LONGEST_ROW and not line[:1].islower()
    return is_short and _VALUE.search(line.strip()) is not None


def _note(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Read a note and the lines that go on with it."""
    begin, stop = state.bMarks[start] + state.tShift[start], state.eMarks[start]
    found = None if state.is_code_block(start) else _NOTE.match(state.src, begin, stop)
    if found is None or silent:
        return found is not None
    state.line = start + 1
    while (
        state.line < end
        and not state.isEmpty(state.line)
        and not _NOTE.match(state.src, state.bMarks[state.line])
    ):
        state.line += 1
    token = state.push("note_open", "", 1)
    token.meta = {"mark": found[1]}
    words = state.push("inline", "", 0)
    words.content = state.src[found.end() : state.eMarks[state.line - 1]]
    words.children = []
    state.push("note_close", "", -1)
    return True


_PARSER.block.ruler.before("reference", "note", _note, {"alt": ["paragraph"]})
_BLOCKS = MarkdownIt("commonmark").disable("inline")
_NOTE = re.compile(r"\[\^([^\]\s]{1,60})\]:[ \t]*(?=\S)")
"""The begin of a note below the text: "[^1]: Only for adults."."""
_MARK = re.compile(r"\[\^([^\]\s]{1,60})\]")
_VALUE = re.compile(r"[:;] | {2}|[\d%\u20ac$\u00a3]$")
_LONGEST_ROW = 8
"""Words of a row without a bar or tab: lines of prose that are wrapped have more."""
_TAG = re.compile(r"<(/?)([a-z][\w-]{0,40})[^<>]*>?", re.IGNORECASE)
_LONGEST_HEADING = 2_000


def read_markdown(content: str) -> Page:
    """Return the page; of raw HTML, what it shows.

    Raises DocumentInvalidError for lists or quotes nested deeper than DEEPEST_NESTING: the parser would omit
    their content.
    """
    tokens = _PARSER.parse(content)
    if any(token.level >= DEEPEST_NESTING - 1 for token in tokens):
        raise DocumentInvalidError(f"Markdown is nested deeper than {DEEPEST_NESTING}.")
    reader = _Reader(frozenset(str(token.meta["mark"]) for token in tokens if token.type == "note_open"))
    blocks = tuple(reader.blocks(SyntaxTreeNode(tokens).children))
    return Page(blocks, losses=tuple(reader.losses))


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
    return " ".join(text_of(_Reader().runs(SyntaxTreeNode([tokens]).children[0].children)).split())


class _Reader:
    """Turns nodes of the parser into blocks. ``marks``: of the page's notes."""

    def __init__(self, marks: frozenset[str] = frozenset()) -> None:
        self.losses: list[Loss] = []
        self._marks = marks
        self._around = Style()
        """Of the text in elements of raw HTML that are open."""
        self._open: list[tuple[str, Style]] = []
        """These elements, with the style before each."""

    def blocks(self, nodes: Iterable[SyntaxTreeNode]) -> Iterator[Block]:
        for node in nodes:
            match node.type:
                case "heading":
                    yield Heading(int(node.tag[1:]), self._line(node))
                case "paragraph":
                    yield Paragraph(self._line(node))
                case "fence" | "code_block":
                    yield Code(node.content)
                case "html_block":
                    part = read_fragment(node.content, self._around)
                    self.losses += part.losses
                    yield from part.blocks
                    for tag in _TAG.finditer(node.content):
                        self._around = self._after(tag, self._around, self._open)
                case "bullet_list":
                    yield List(tuple(Item("-", tuple(self.blocks(item.children))) for item in node.children))
                case "ordered_list":
                    yield List(tuple(self._numbered(node)), is_ordered=True)
                case "table":
                    yield self._table(node)
                case "note":
                    yield Note(str(node.meta["mark"]), (Paragraph(self._line(node)),))
                case _:  # a quote
                    yield from self.blocks(node.children)

    def _numbered(self, node: SyntaxTreeNode) -> Iterator[Item]:
        start = node.attrs.get("start")
        for number, item in enumerate(node.children, start=1 if start is None else int(start)):
            yield Item(f"{number}{item.markup or '.'}", tuple(self.blocks(item.children)))

    def _table(self, node: SyntaxTreeNode) -> Table:
        rows = [row for part in node.children for row in part.children]
        cells = (tuple(Cell((Paragraph(self._line(cell)),)) for cell in row.children) for row in rows)
        return Table(tuple(cells), header_rows=1)

    def _line(self, node: SyntaxTreeNode) -> Runs:
        """Return the text of a block. Lines are one text, unless each looks like a row."""
        inlines = [inline_node for inline_node in node.children if inline_node.type == "inline"]
        lines = [line for inline_node in inlines for line in inline_node.content.split("\n")]
        end = "\n" if len(lines) > 1 and all(map(_is_row, lines)) else " "
        return trimmed(run for inline_node in inlines for run in self.runs(inline_node.children, end=end))

    def runs(
        self, nodes: Iterable[SyntaxTreeNode], style: Style | None = None, *, end: str = " "
    ) -> Iterator[Run]:
        """Yield the text of inline nodes; ``end`` is the end of a line. Tags of raw HTML change its style
        until they end; most others separate words: cells of tables hold ``<br>`` and ``<li>``."""
        style = style or self._around
        opened: list[tuple[str, Style]] = []
        for node in nodes:
            match node.type:
                case "text":
                    yield from self._noted(node.content, style)
                case "code_inline":
                    yield style.run(node.content)
                case "image":
                    text = node.content or "".join(child.content for child in node.children)
                    self.losses += [] if text.strip() else [Loss("pictures without text")]
                    yield style.run(text)
                case "softbreak":
                    yield style.run(end)
                case "hardbreak":
                    yield style.run("\n")
                case "link":
                    yield from self.runs(node.children, replace(style, link=str(node.attrs["href"])), end=end)
                case "s":
                    yield from self.runs(node.children, replace(style, is_struck=True), end=end)
                case "html_inline":
                    style, runs = self._tag(node.content, style, opened)
                    yield from runs
                case _:
                    yield from self.runs(node.children, style, end=end)

    def _noted(self, text: str, style: Style) -> Iterator[Run]:
        """Yield a text with the marks of notes in it raised."""
        for at, part in enumerate(_MARK.split(text) if self._marks else [text]):
            if at % 2 == 0:
                yield style.run(part)
            elif part in self._marks:
                yield replace(style.run(part), shift=Shift.RAISED, is_note_mark=True)
            else:
                yield style.run(f"[^{part}]")

    def _tag(
        self, markup: str, style: Style, opened: list[tuple[str, Style]]
    ) -> tuple[Style, tuple[Run, ...]]:
        """Return the style after a tag of raw HTML, and what the tag itself shows. ``opened``: each tag that
        is open, with the style before it."""
        tag = _TAG.match(markup)
        if tag is None:
            return style, ()
        name = tag[2].lower()
        if name in ("img", "input"):
            part = read_fragment(markup, style)
            self.losses += part.losses
            return style, tuple(run for line in all_runs(part.blocks) for run in (Run(" "), *line, Run(" ")))
        is_inline = INLINE.fullmatch(name) is not None
        return (self._after(tag, style, opened), ()) if is_inline else (style, (style.run("\n"),))

    @staticmethod
    def _after(tag: re.Match[str], style: Style, opened: list[tuple[str, Style]]) -> Style:
        """Return the style after a tag in text of a style."""
        name = tag[2].lower()
        if not tag[1]:
            if _EMPTY.fullmatch(name) or len(opened) == DEEPEST_NESTING:
                return style
            opened.append((name, style))
            return style_after(tag[0], style) if _STYLED.search(tag[0]) else style
        places = [at for at, (other, _) in enumerate(opened) if other == name]
        if places:
            style = opened[places[-1]][1]
            del opened[places[-1] :]
        return style
