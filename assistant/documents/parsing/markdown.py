"""Reads Markdown into the page model: markdown-it-py writes it as HTML, which the reader of HTML reads."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore, inline
from markdown_it.token import Token

from assistant.documents.page import Page, all_runs, text_of
from assistant.documents.parsing.html import read_html
from assistant.domain.errors import DocumentInvalidError

DEEPEST_NESTING = 100
_LONGEST_HEADING = 2_000
_NARROWEST = 40
"""Characters: editors wrap prose at 70 to 120."""
_NOTE = re.compile(r"\[\^([^\]\s]{1,60})\]:[ \t]*(?=\S)")
"""The begin of a note below the text: "[^1]: Only for adults."."""
_MARK = re.compile(r"\[\^([^\]\s]{1,60})\]")
_ROW = re.compile(r"^ {0,3}\|.*`.*$", re.MULTILINE)
_CODE = re.compile(r"(`{1,3})[^`\s]+\1")
_BAR = re.compile(r"(?<!\\)\|")
"""In the code of a row a bar would begin a cell, and the last cell would be dropped."""
_GENERATED = re.compile(r"\{:[^{}\n]*\}|^:::+ ?\w*")
"""What generators of sites read, and readers do not see: attributes, and the begin and end of a box."""
_SWALLOWING = re.compile(
    r"<(?=(iframe|nav|noembed|noframes|noscript|object|plaintext|script|select|style|svg|template|textarea"
    r"|title|xmp)\b)",
    re.IGNORECASE,
)
"""Elements whose end an author may forget: all that follows would be a part of them."""


_PARSER = MarkdownIt("commonmark", {"maxNesting": DEEPEST_NESTING})
_PARSER.enable(["table", "strikethrough"])
_INLINE = MarkdownIt("commonmark").enable("strikethrough")
"""Its own limit, 20, of brackets inside each other: each unclosed one is searched once a level."""
_BLOCKS = MarkdownIt("commonmark").disable("inline")


def _inline(state: StateCore) -> None:
    """Read what is in blocks, with the limit of ``_INLINE``; raw HTML ends in its own block. A list keeps the
    sign after its numbers."""
    state.md = _INLINE
    inline(state)
    for token in state.tokens:
        if token.type == "ordered_list_open":
            token.attrSet("data-end", token.markup)
        elif token.type == "html_block":
            names = {found[1].lower() for found in _SWALLOWING.finditer(token.content)}
            missing = (name for name in names if f"</{name}" not in token.content.lower())
            token.content += "".join(f"</{name}>" for name in missing)
        elif token.type == "inline":
            _lines(token, state.env.get("notes", ()))


def _lines(token: Token, notes: Collection[str]) -> None:
    """Raise the marks of notes in a block. Its lines are one text, unless an author ended them."""

    def raised(mark: re.Match[str]) -> str:
        return f"<sup>[{mark[1]}]</sup>" if mark[1] in notes else mark[0]

    lines = [line.strip() for line in token.content.split("\n")]
    are_rows = len(lines) > 1 and _are_rows(lines)
    for child in token.children or ():
        if child.type == "softbreak" and are_rows:
            child.type = "hardbreak"
        elif child.type == "text":
            shown = escapeHtml(_GENERATED.sub("", child.content))
            child.type, child.content = "html_inline", _MARK.sub(raised, shown)
        elif child.type == "html_inline":
            child.content = _SWALLOWING.sub("&lt;", child.content)
        elif child.type == "image" and not child.content:  # by its writer it would be decoration
            child.type, child.content = "html_inline", "<img>"


def _are_rows(lines: Sequence[str]) -> bool:
    """Return whether an author ended lines where they end, as in "Monday: 9 to 5". Where an editor wrapped
    them, the next line's first word would not have fitted into the longest. A line that begins with a small
    letter goes on with the sentence above."""
    if any(line[:1].islower() for line in lines):
        return False
    width = max(_NARROWEST, *map(len, lines))
    ended = sum(len(line) + len(f" {below}".split(" ", 2)[1]) < width for line, below in pairwise(lines))
    return all("|" in line or "\t" in line for line in lines) or 2 * ended >= len(lines) - 1


def _note(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Read a note and the lines that go on with it, as a paragraph that begins with its mark."""

    def found(line: int) -> re.Match[str] | None:
        begin = state.bMarks[line] + state.tShift[line]
        return None if state.is_code_block(line) else _NOTE.match(state.src, begin, state.eMarks[line])

    note = found(start)
    if note is None or silent:
        return note is not None
    state.line = start + 1
    while state.line < end and not state.isEmpty(state.line) and not found(state.line):
        state.line += 1
    state.env.setdefault("notes", set()).add(note[1])
    state.push("paragraph_open", "p", 1)
    words = state.push("inline", "", 0)
    words.content = f"[^{note[1]}] {state.src[note.end() : state.eMarks[state.line - 1]]}"
    words.children = []
    state.push("paragraph_close", "p", -1)
    return True


_PARSER.core.ruler.at("inline", _inline)
_PARSER.block.ruler.before("reference", "note", _note, {"alt": ["paragraph"]})


def read_markdown(content: str) -> Page:
    """Return the page; of raw HTML, what it shows.

    Raises DocumentInvalidError for lists or quotes nested deeper than DEEPEST_NESTING: the parser would omit
    their content.
    """
    env: dict[str, Any] = {}
    whole = _ROW.sub(lambda row: _CODE.sub(lambda code: _BAR.sub(r"\|", code[0]), row[0]), content)
    tokens = _PARSER.parse(whole, env)
    if any(token.level >= DEEPEST_NESTING - 1 for token in tokens):
        raise DocumentInvalidError(f"Markdown is nested deeper than {DEEPEST_NESTING}.")
    return read_html(_PARSER.renderer.render(tokens, _PARSER.options, env), is_whole=False)


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
    page = read_markdown(f"# {line[:_LONGEST_HEADING]}")
    return " ".join(" ".join(map(text_of, all_runs(page.blocks))).split())
