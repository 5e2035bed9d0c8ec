"""Reads Markdown into the page model: markdown-it-py writes HTML, which ``html.read_html`` reads.

Three things differ from CommonMark: notes ("[^1]: Only for adults.") are read, raw HTML ends in its own
block, and lines that an author ended on purpose ("Monday: 9 to 5") stay lines.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise, takewhile, zip_longest
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore, inline
from markdown_it.token import Token

from assistant.documents.aligned import aligned_blocks, goes_on, has_gaps
from assistant.documents.page import SENTENCE_ENDS, Page, all_runs, text_of
from assistant.documents.parsing.html import read_html
from assistant.domain.errors import DocumentInvalidError

DEEPEST_NESTING = 100
"""Lists and quotes inside each other; markdown-it-py omits what is deeper."""
_LONGEST_HEADING = 2_000
"""Characters of a heading that are read for a title; it bounds the time."""
_NARROWEST = 40
"""Characters. The narrowest width at which lines may have been wrapped by an editor: these wrap at 70 to
120."""
_NOTE_BEGIN = re.compile(r"\[\^([^\]\s]{1,60})\]:[ \t]*(?=\S)")
"""The begin of a note below the text, "[^1]: Only for adults.": group 1 is "1"."""
_NOTE_MARK = re.compile(r"\[\^([^\]\s]{1,60})\]")
_CODE_ROW = re.compile(r"^ {0,3}\|.*`.*$", re.MULTILINE)
"""A row of a table with code in it: "| `a|b` | first |"."""
_CODE = re.compile(r"(`{1,3})[^`\s]+\1")
_BAR = re.compile(r"(?<!\\)\|")
"""A bar without a backslash. In the code of a row it would begin a cell, and the row's last cell would be
dropped."""
_DEFINITION = re.compile(r"\A[ \t]*:[ \t]+(?=\S)")
"""The begin of what a term above means: "Fee" over ": $20 for a visit"."""
_GENERATED = re.compile(r"\{:[^{}\n]*\}|^:::+ ?\w*")
"""Marks for generators of sites, which readers do not see: attributes "{: .wide}", and the begin and end of a
box, "::: warning" and ":::"."""
_MARKED = re.compile(r"\s{0,3}(?:[-*>#<`~]|\+ |\d+[.)]\s|\[)")
"""The begin of a list, heading, quote, code, HTML or note."""
_MARKUP = re.compile(r"[*_`<\[\]]")
_DELIMITER_ROW = re.compile(r"\A[\s|:]*-[\s|:-]*")
"""The second line of a table of Markdown, or of a heading."""
_SWALLOWING = re.compile(
    r"<(?=(iframe|nav|noembed|noframes|noscript|object|plaintext|script|select|style|svg|template|textarea"
    r"|title|xmp)\b)",
    re.IGNORECASE,
)
"""The begin of an element that takes all text up to its end tag: without one, the rest of the page."""


_PARSER = MarkdownIt("commonmark", {"maxNesting": DEEPEST_NESTING})
_PARSER.enable(["table", "strikethrough"])
_TEXT_PARSER = MarkdownIt("commonmark").enable("strikethrough")
"""Parser of the text in blocks. It keeps markdown-it's limit of 20 brackets inside each other, because each
unclosed bracket is searched once for each level."""
_BLOCK_PARSER = MarkdownIt("commonmark").disable("inline")
"""Parser that finds the blocks and leaves the text in them unparsed."""


def _read_texts(state: StateCore) -> None:
    """Parse the text in blocks with ``_TEXT_PARSER``, then edit the tokens. It replaces markdown-it's rule
    "inline".

    Raw HTML gets the end tags that it lacks, and marks of notes as these have them. A list gets the attribute
    data-end, the sign after its numbers ("." or ")"), or data-sign, its bullet ("*"), which ``html`` reads.
    """
    state.md = _TEXT_PARSER
    state.tokens = _with_definitions(state.tokens)
    inline(state)
    notes = state.env.get("notes", ())
    for token in state.tokens:
        if token.type == "ordered_list_open":
            token.attrSet("data-end", token.markup)
        elif token.type == "bullet_list_open":
            token.attrSet("data-sign", token.markup)
        elif token.type == "html_block":
            names = {found[1].lower() for found in _SWALLOWING.finditer(token.content)}
            missing = (name for name in names if f"</{name}" not in token.content.lower())
            token.content += "".join(f"</{name}>" for name in missing)
            token.content = _with_marks(token.content, notes, "[{}] ")  # as wide: columns may be below
        elif token.type == "inline":
            _edit_text(token, notes)


def _with_definitions(tokens: Iterable[Token]) -> list[Token]:
    """Return tokens in which paragraphs of terms and definitions are those of HTML: "Fee", ": $20" is
    "<dt>Fee</dt><dd>$20</dd>". Between them may be a blank line."""
    made = list[Token]()
    for token in tokens:
        made.append(token)
        lines = made[-2].content.split("\n") if token.type == "paragraph_close" else []
        begins = [_DEFINITION.match(line) for line in lines]
        if not any(begins):
            continue
        *made, opened, text, closed = made
        texts = list[list[str]]()  # of each term or definition its tag and lines
        for line, begin, below in zip_longest(lines, begins, begins[1:]):
            if begin:
                texts.append(["dd", line[begin.end() :]])
            elif texts and texts[-1][0] == "dd" and (line[:1].isspace() or not below):
                texts[-1].append(line)
            else:
                texts.append(["dt", line])
        if begins[0] and made and made[-1].tag == "p" and not made[-2].content.endswith(SENTENCE_ENDS):
            made[-3].tag = made[-1].tag = "dt"
        for tag, *content in texts:
            shown = text.copy(content="\n".join(content), children=[])
            made += opened.copy(tag=tag, hidden=False), shown, closed.copy(tag=tag, hidden=False)
    return made


def _edit_text(token: Token, notes: Collection[str]) -> None:
    """Edit the tokens of one block's text: raise the marks of ``notes``, and keep lines that an author ended.

    ``notes`` are the marks that ``_read_note`` found on the page; "[^7]" without a note stays as it is.
    """
    lines = [line.strip() for line in token.content.split("\n")]
    are_kept = len(lines) > 1 and _are_kept(lines)
    for child in token.children or ():
        if child.type == "softbreak" and are_kept:
            child.type = "hardbreak"
        elif child.type == "text":
            shown = escapeHtml(_GENERATED.sub("", child.content))
            child.type, child.content = "html_inline", _with_marks(shown, notes, "<sup>[{}]</sup>")
        elif child.type == "html_inline":
            child.content = _SWALLOWING.sub("&lt;", child.content)
        elif child.type == "image" and not child.content:  # else <img alt="">, decoration
            child.type, child.content = "html_inline", "<img>"


def _with_marks(text: str, notes: Collection[str], shown: str) -> str:
    return _NOTE_MARK.sub(lambda mark: shown.format(mark[1]) if mark[1] in notes else mark[0], text)


def _are_kept(lines: Sequence[str]) -> bool:
    """Return whether lines must stay lines, because an author ended them: "Monday: 9 to 5", "Tuesday: 9 to
    4".

    An editor wraps a line where the next word does not fit: a line to which the next line's first word could
    be added was ended on purpose. At least half of the lines must be such (``kept``), or all must have a bar
    or a tab. A line that begins with a small letter goes on with the sentence above.
    """
    if any(line[:1].islower() for line in lines):
        return False
    width = max(_NARROWEST, *map(len, lines))
    kept = sum(len(line) + len(f" {below}".split(" ", 2)[1]) < width for line, below in pairwise(lines))
    return all("|" in line or "\t" in line for line in lines) or 2 * kept >= len(lines) - 1


def _read_note(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Read a note and the lines that go on with it, as a paragraph that begins with its mark.

    A block rule of markdown-it: it returns whether a note begins in line ``start``; ``silent`` asks only
    that. The marks of all notes are collected in ``state.env["notes"]`` for ``_edit_text``: blocks are read
    before texts.
    """

    def note_at(line: int) -> re.Match[str] | None:
        begin = state.bMarks[line] + state.tShift[line]
        return None if state.is_code_block(line) else _NOTE_BEGIN.match(state.src, begin, state.eMarks[line])

    note = note_at(start)
    if note is None or silent:
        return note is not None
    state.line = start + 1
    while state.line < end and not state.isEmpty(state.line) and not note_at(state.line):
        state.line += 1
    state.env.setdefault("notes", set()).add(note[1])
    state.push("paragraph_open", "p", 1)
    text = state.push("inline", "", 0)
    text.content = f"[^{note[1]}] {state.src[note.end() : state.eMarks[state.line - 1]]}"
    text.children = []
    state.push("paragraph_close", "p", -1)
    return True


def _read_aligned(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Read lines that are a grid or columns made of blanks as a ``pre``, of which ``html`` makes a table, or
    keeps the lines. A block rule like ``_read_note``."""
    lines = _paragraph(state, start, end)
    is_other = any(map(_MARKED.match, lines[:1])) or any(map(_DELIMITER_ROW.fullmatch, lines[:2]))
    is_bare = has_gaps("\n".join(lines)) and not any(map(_MARKUP.search, lines))
    if silent or state.level or is_other or not (aligned_blocks(lines) or is_bare):
        return False
    while goes_on(lines, below := _paragraph(state, start + len(lines) + 1, end)):
        lines += ["", *below]
    state.line = start + len(lines)
    shown = escapeHtml("\n".join(lines))
    state.push("html_block", "", 0).content = f"<pre>{shown}</pre>"
    return True


def _paragraph(state: StateBlock, start: int, end: int) -> list[str]:
    """Return the lines from ``start`` to the next empty one."""
    lines = takewhile(lambda line: not state.isEmpty(line), range(start, end))
    return [state.src[state.bMarks[line] : state.eMarks[line]] for line in lines]


_PARSER.core.ruler.at("inline", _read_texts)
_PARSER.block.ruler.before("table", "aligned", _read_aligned)
_PARSER.block.ruler.before("reference", "note", _read_note, {"alt": ["paragraph"]})


def read_markdown(content: str) -> Page:
    """Return the page. Raw HTML in it is read as HTML.

    Raises DocumentInvalidError for lists or quotes nested deeper than DEEPEST_NESTING: the parser would omit
    their content.
    """
    env: dict[str, Any] = {}
    # A bar in the code of a row gets a backslash.
    escaped = _CODE_ROW.sub(lambda row: _CODE.sub(lambda code: _BAR.sub(r"\|", code[0]), row[0]), content)
    tokens = _PARSER.parse(escaped, env)
    if any(token.level >= DEEPEST_NESTING - 1 for token in tokens):
        raise DocumentInvalidError(f"Markdown is nested deeper than {DEEPEST_NESTING}.")
    return read_html(_PARSER.renderer.render(tokens, _PARSER.options, env), is_whole=False)


def first_heading(content: str) -> str | None:
    """Return the text of the first heading of the highest level; None without headings.

    The text of other blocks is not parsed: a hostile body must not cost the parsing time twice.
    """
    headings = [
        (opened.tag, text)
        for opened, line in pairwise(_BLOCK_PARSER.parse(content))
        if opened.type == "heading_open" and opened.level == 0 and (text := _heading_text(line.content))
    ]
    return min(headings, key=lambda heading: heading[0])[1] if headings else None


def _heading_text(line: str) -> str:
    """Return the text of a heading without markup for emphasis, links and code."""
    page = read_markdown(f"# {line[:_LONGEST_HEADING]}")
    return " ".join(" ".join(map(text_of, all_runs(page.blocks))).split())
