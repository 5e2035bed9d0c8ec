"""Reads HTML into the page model by turbohtml: the main content, without repeated parts of a page.

``read_html("<nav>Home</nav><h1>Refills</h1><p>Wait <b>23</b> days.")`` returns::

    Page(
        (Heading(1, (Run("Refills"),)), Paragraph((Run("Wait 23 days."),))),
        losses=(Loss(BESIDE_WORDS, words=1),),  # the menu
    )

Elements that the page hides are read, and their runs are marked ``is_hidden``. Panels that a button opens are
content: they are not marked, and the button's words are a heading above them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from html import escape, unescape
from itertools import chain, filterfalse, islice, takewhile
from typing import NamedTuple
from unicodedata import category

from turbohtml import Document, Element, Node, SelectorSyntaxError, Text, parse

from assistant.documents import page as model
from assistant.documents.aligned import delimited_blocks, preformatted
from assistant.documents.symbols import UNKNOWN_SYMBOL, symbols
from assistant.documents.tables import table_blocks
from assistant.documents.whole import is_stroke
from assistant.domain.errors import DocumentInvalidError

DEEPEST_NESTING = 200
"""Elements around an element, and itself, in a page that is parsed. The parser itself stops at 512."""
_NEAR = 3
"""Nodes before and after an element that may say what it is called."""
_DEEPEST_BLOCKS = 40
"""Lists and definitions around a block: a page of deeper ones cannot be stored."""

# What the page shows, and where: selectors
_UNSEEN = "script, style, noscript, svg, iframe, object"
_REPEATED = "nav, [role=navigation], [role=banner], [role=contentinfo], [role=search], [role=complementary]"
_MARGINS = "header, footer"
_WORKING = "a[href], button, form, img, input, h1, h2, h3, h4, h5, h6"
"""What a header or footer has that only leads elsewhere, or names the page."""
_PARTS = "div, p, li, table"
_FEWEST_WORDS = 5
_OLDER_MAILS = "blockquote[type=cite], .gmail_quote, .yahoo_quoted, .protonmail_quote"
"""What programs for e-mail write around an older mail."""
_NOTE_MARKS = "sup a[href^='#'], a[role=doc-noteref], a.footnote-ref"
_NOTE_TAGS = frozenset(["li", "p", "div", "aside", "section"])
"""Elements that are a note, where the mark of one leads to them."""

# Styles
_COMMENT = re.compile(r"/\*[^*]*\*+(?:[^/*][^*]*\*+)*/")
_TELLING = re.compile(
    r"background|display|font-size|list-style|opacity|text-decoration|vertical-align|visibility"
    r"|font[^;]*(?:dings|symbol|dingbats)",
    re.I,
)
"""Properties that say what is struck, hidden, raised, counted, colored or in letters of symbols; rules
without them are not looked at."""
_SIZE = re.compile(r"\d\S{0,20}\s")
"""What is before the families of fonts in the shorthand ``font``: "bold 7.0pt 'Times New Roman', serif"."""
_ZERO = re.compile(r"0(?:\.0*)?[a-z%]*")
_SHOWING = "[style*=font-size], [style*=visibility]"
"""What may show text again in an element whose own text is hidden."""
_COUNTER_STYLE = re.compile(r"\b(lower|upper)-(alpha|latin|roman)\b")
_COUNTERS = {"alpha": "a", "latin": "a", "roman": "i"}
"""HTML's type of a list, by the name in its style: "lower-roman" is "i", "upper-roman" is "I"."""

# Kinds of elements, by tag or selector
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_HAS_HEADING = ", ".join(("summary", *_HEADINGS))
"""Around a control, or itself: its words are a heading already."""
_STRUCK = frozenset(["del", "s", "strike"])
_DECORATIONS = frozenset(["text-decoration", "text-decoration-line"])
_SHIFTS = {"sup": model.Shift.RAISED, "super": model.Shift.RAISED, "sub": model.Shift.LOWERED}
"""Shift of a text, by tag or by the value of ``vertical-align``."""

# Panels: parts of a page that are hidden until a control is pressed
_CONTROLS = "button, summary, [role=button], [role=tab], [data-toggle], [data-bs-toggle]"
_CONTROLLED = ("aria-controls", "data-target", "data-bs-target", "href")
"""Attributes by which a control names the panel that it opens."""
_QUOTED_NAME = re.compile(r"""["']#?([\w-]{1,60})["']""")
"""Name of what a control opens, in its script: "show('p1')"."""
_PANEL_HEADING = 4
"""Level of a control that opens a panel, where no heading is around it."""

_INPUTS_WITHOUT_VALUE = ("hidden", "image", "password", "file")
_BLOCK_TAGS = re.compile(
    r"p|blockquote|address|figure|figcaption|dl|center|legend|body|main|article|section|div"
    r"|header|footer|aside|form|fieldset|dialog|hgroup|details|tbody|table|tr|td|th|li"
)
"""Elements that begin and end a paragraph."""
_INLINE_TAGS = re.compile(
    r"a|abbr|b|cite|code|del|em|font|i|ins|kbd|label|mark|q|s|samp|small|span|strike|strong|sub"
    r"|sup|u|var|wbr"
)
"""Elements that do not separate words."""
_LABELLED = re.compile(rf"div|canvas|{_INLINE_TAGS.pattern}")
"""Elements whose label is a text beside theirs."""
_PLAIN = model.Run("")
_WIDEST_SPAN = 1000
_SPACES = re.compile(r"\s+")


# Text in cells and JSON that is HTML
_ENTITY = re.compile(r"&(?:[a-z]{2,8}|#\d{2,5}|#x[0-9a-f]{2,5});", re.I)
_BLOCK_MARKUP = re.compile(r"<(?:p|br|hr|/?(?:div|d[dlt]|h[1-6]|li|ol|pre|ul|table|td|tr))\b[^<>]*>", re.I)
_MARKUP = re.compile(rf"{_BLOCK_MARKUP.pattern}|</(?:{_INLINE_TAGS.pattern})>|<img\b[^<>]*>", re.I)
_NO_TAG = re.compile(
    rf"<(?!!--|/?(?:{_BLOCK_TAGS.pattern}|{_INLINE_TAGS.pattern}|br|d[dt]|h[1-6r]|img|ol|pre|style|ul)\b[^<>]*>)",
    re.I,
)
"""A sign of a comparison, or of a key: "a<b", "<Enter>"."""
_SHOWN_ONLY = "img, object, i[class], em[class], b[class], span[class], div[class], [style*=background]"
"""What may show something in a cell without text."""


def read_html(content: str, *, is_whole: bool = True) -> model.Page:
    """Return the main content of a page. ``is_whole``: False for a part of one, all of which is content.

    What a whole page repeats is removed before it is read: menus, and headers and footers around the main
    element. Their words are counted as a loss, but for the words of a banner ("Draft, valid from 1 May").

    Raises DocumentInvalidError for elements nested deeper than DEEPEST_NESTING.
    """
    page = parse(content).remove("template")  # a selector would match inside it
    if page.select_one("* > " * DEEPEST_NESTING + "*") is not None:
        raise DocumentInvalidError(f"HTML elements are nested deeper than {DEEPEST_NESTING}.")
    body = page.find("body")
    if body is None:
        return model.Page(())
    styles = _Styles(_declared_in_sheets(page))  # _UNSEEN has the style sheets
    drawn = body.select("symbol")
    named = {f"#{symbol.attr('id')}": title.text for symbol in drawn for title in symbol.select("title")}
    body.remove("symbol")
    for drawing in body.select("svg"):
        names = [*(title.text for title in drawing.select("title"))]
        names += [
            named.get(use.attr("href") or use.attr("xlink:href") or "", "") for use in drawing.select("use")
        ]
        label = drawing.attr("aria-label") or next(filter(None, names), "")
        drawing.insert_adjacent_html("beforebegin", f'<i class="svg" aria-label="{escape(label)}"></i>')
    body.remove(_UNSEEN)
    controls, older_mails = frozenset(page.select(_CONTROLS)), frozenset(page.select(_OLDER_MAILS))
    notes = {f"{mark.attr('href')}"[1:]: mark.text.strip(" []()") for mark in page.select(_NOTE_MARKS)}
    reader = _Reader(_Survey(styles, controls, older_mails, notes, _panels(page, styles, controls), {}))
    words = _word_count(body)
    main = _main(page) if is_whole else None
    root = body if main is None else main
    banner = _banner(reader, [*_notices(body, main), *(_margins(body, main) if is_whole else ())])
    asides = root.select("aside") if is_whole and main is None else ()
    for aside in asides:
        if not any(map(_is_prose, aside.select("p, li, dd"))):
            aside.decompose()
    root.remove(f"{_REPEATED}, {_MARGINS}" if is_whole and main is None else _REPEATED)
    beside = words - _word_count(root) - len(banner.split())
    blocks = reader.blocks(root)
    losses = [model.Loss(model.BESIDE_WORDS, words=beside)] if beside > 0 else []
    losses += map(model.Loss, reader.page.lost)
    return model.Page(blocks, banner=banner, losses=tuple(losses))


def opened_markup(text: str) -> tuple[str, bool]:
    """Return a text of a cell or of JSON, and whether it is HTML: "Print it at <a href=…>the portal</a>".

    Lines that no element makes stay lines. A text that was escaped is opened: "Tom &amp; Co".
    """
    if _ENTITY.search(text) and not _MARKUP.search(text):
        text = unescape(text)
        is_html = text.lstrip().startswith("<") and _MARKUP.search(text) is not None
    else:
        is_html = _MARKUP.search(text) is not None
    if not is_html:
        return text, False
    text = text if _BLOCK_MARKUP.search(text) else text.replace("\n", "<br>")
    return _NO_TAG.sub("&lt;", text), True


def with_markup_read(page: model.Page) -> model.Page:
    """Return the page with each paragraph, cell and heading that is HTML read as such."""
    losses = dict.fromkeys(page.losses)

    def opened(block: model.Block) -> tuple[model.Block, ...]:
        match block:
            case model.Table(rows=rows):
                cells = (
                    tuple(replace(cell, blocks=tuple(chain(*map(opened_cell, cell.blocks)))) for cell in row)
                    for row in rows
                )
                return (replace(block, rows=tuple(cells)),)
            case model.Heading(runs=runs) | model.Paragraph(runs=runs):
                text, is_html = opened_markup(model.text_of(runs))
                if not is_html:
                    is_changed = text != model.text_of(runs)
                    return (replace(block, runs=model.plain(text)) if is_changed else block,)
                read = read_html(text, is_whole=False)
                losses.update(dict.fromkeys(read.losses))
                is_heading = isinstance(block, model.Heading)
                return (
                    (replace(block, runs=_in_one_line(read.blocks)),)
                    if is_heading
                    else (*filterfalse(is_stroke, read.blocks),)
                )
            case _:
                return (block,)

    def opened_cell(block: model.Block) -> Iterable[model.Block]:
        lines = model.text_of(block.runs).split("\n") if isinstance(block, model.Paragraph) else [""]
        return (delimited_blocks(lines) if "|" in lines[0] else []) or opened(block)

    blocks = tuple(chain(*map(opened, page.blocks)))
    return replace(page, blocks=blocks, losses=tuple(losses))


def _word_count(element: Element) -> int:
    return sum(len(text.split()) for text in element.stripped_strings)


def _main(page: Document) -> Element | None:
    """Return the main element. In it headers and asides are content; around it they are repeated on each
    page."""
    candidates = map(page.select, ("main", "[role=main]", "article"))
    return next((elements[0] for elements in candidates if len(elements) == 1), None)


def _is_prose(part: Element) -> bool:
    """Return whether the part is a sentence that leads nowhere: "Children under 12 only with an adult."."""
    text = part.text.strip()
    is_sentence = len(text.split()) >= _FEWEST_WORDS and text.endswith((".", "!"))
    return is_sentence and part.select_one(f"{_WORKING}, {_PARTS}") is None


def _notices(body: Element, main: Element | None) -> list[Element]:
    """Return the sentences with a number that stand above the main element: "No delivery 12/20-01/03."."""
    above = _elements(body.children) if main is not None and main.parent == body else ()
    parts = takewhile(lambda part: part != main, above)
    prose = (part for part in parts if part.tag in ("div", "p") and _is_prose(part))
    return [part for part in prose if any(map(str.isdigit, part.text))]


def _margins(body: Element, main: Element | None) -> list[Element]:
    """Return the headers and footers of a page: those of its main element and of articles are content."""
    content = frozenset(main.select(_MARGINS) if main is not None else ())
    outside = (margin for margin in body.select(_MARGINS) if margin not in content)
    return [margin for margin in outside if margin.closest("article, section") is None]


def _banner(reader: _Reader, margins: Iterable[Element]) -> str:
    """Return what headers and footers that lead nowhere say in one line."""
    stamps = (reader.blocks_in(margin) for margin in margins if margin.select_one(_WORKING) is None)
    texts = (model.text_of(run for run in _in_one_line(stamp) if run.is_in_force) for stamp in stamps)
    return model.banner_of(dict.fromkeys(" ".join(text.split()) for text in texts if text.strip()))[0]


# Styles


@lru_cache
def _properties(declarations: str) -> Mapping[str, str]:
    """Return the value of each property: {"display": "none"} of "Display: none !important". The last one of
    a name holds."""
    parts = (part.partition(":") for part in declarations.lower().split(";"))
    return {name.strip(): value.removesuffix("!important").strip() for name, _, value in parts}


def _declared_in_sheets(page: Document) -> dict[Element, str]:
    """Return what the page's own style sheets declare of an element, in their order:
    "display:none;opacity:0;"."""
    declared = defaultdict[Element, str](str)
    for sheet in page.select("style"):
        for selectors, declarations in _telling_rules(sheet.text):
            with suppress(SelectorSyntaxError):  # of a kind that no element has, as "p::before"
                for element in page.select(selectors):
                    declared[element] += f"{declarations};"
    return declared


def _telling_rules(sheet: str) -> Iterator[tuple[str, str]]:
    """Yield selectors and declarations of each rule that may strike, hide, raise or count text:
    ("p", "opacity:0").

    Rules inside other braces, as "@media print {…}", are left out.
    """
    open_braces = 0  # before the rule
    for rule in _COMMENT.sub("", sheet).split("}"):
        selectors, _, declarations = rule.rpartition("{")
        if open_braces == 0 and "{" not in selectors and _TELLING.search(declarations):
            yield selectors.strip(), declarations
        open_braces = max(0, open_braces + rule.count("{") - 1)


@dataclass(frozen=True, slots=True)
class _Styles:
    """Tells how the elements of a page mark their text."""

    in_sheets: Mapping[Element, str]
    """``_declared_in_sheets``"""

    def declarations(self, node: Element) -> Mapping[str, str]:
        """Return the values of CSS properties, by the style sheets and by the element's own attribute."""
        declarations = self.in_sheets.get(node, "") + (node.attr("style") or "")
        return _properties(declarations) if declarations else {}

    def font(self, node: Element, outer: str) -> str:
        """Return the font of an element's text, in small letters; ``outer`` is that around it."""
        if node.tag == "font" and (face := node.attr("face")):
            return face.partition(",")[0].lower()
        declared = self.declarations(node)
        families = declared.get("font-family") or _SIZE.split(declared.get("font", ""), maxsplit=1)[-1]
        return families.partition(",")[0].strip(" \"'") or outer

    def color(self, node: Element) -> str:
        """Return the color behind an element, as it is written; "" for none of its own."""
        declared = self.declarations(node)
        return declared.get("background-color") or declared.get("background") or node.attr("bgcolor") or ""

    def marks(self, node: Element) -> model.Run:
        """Return an empty run with the marks that an element itself gives its text, by its tag, attributes
        and declarations."""
        link = (node.attr("href") or "") if node.tag == "a" else ""
        is_hidden = node.attr("hidden") is not None or (node.tag == "dialog" and node.attr("open") is None)
        shift, is_struck = _SHIFTS.get(node.tag, model.Shift.NONE), node.tag in _STRUCK
        if declared := self.declarations(node):
            shift = _SHIFTS.get(declared.get("vertical-align", ""), shift)
            is_struck |= any("line-through" in declared.get(name, "") for name in _DECORATIONS)
            is_hidden |= declared.get("display") == "none"
            is_hidden |= _ZERO.fullmatch(declared.get("opacity", "")) is not None
            if declared.get("visibility") == "hidden" or _ZERO.fullmatch(declared.get("font-size", "")):
                is_hidden |= node.select_one(_SHOWING) is None
        return model.Run("", shift, is_struck, is_hidden, link)


# Panels


class _Panels(NamedTuple):
    headings: Mapping[Element, str]
    """Panels that a control opens, each with what is a heading above it: the control's words, or "" where a
    heading on the page has them already."""
    controls: frozenset[Element]
    """Controls whose words are such a heading: they are not read a second time."""


def _panels(page: Document, styles: _Styles, controls: frozenset[Element]) -> _Panels:
    """Return the panels of a page. The last control of a panel that has words names it."""
    pairs = [*_named_panels(page), *(_panels_below_rows(page, styles) if controls else ())]
    alone = (node for node, _ in pairs if node in controls and node.closest(_HAS_HEADING) is None)
    words = {node: text for node in alone if (text := " ".join(node.text.split()))}
    headings = {panel: "" for _, panel in pairs}
    headings |= {panel: words[control] for control, panel in pairs if control in words}
    return _Panels(headings, frozenset(words))


def _named_panels(page: Document) -> Iterator[tuple[Element, Element]]:
    """Yield each element that names panels by their ids, with each of them."""
    by_id = {element.attr("id"): element for element in page.select("[id]")}
    for control in page.select(f"{_CONTROLS}, {', '.join(f'[{name}]' for name in _CONTROLLED)}"):
        yield from ((control, by_id[name]) for name in _panel_ids(control) & by_id.keys())


def _panels_below_rows(page: Document, styles: _Styles) -> Iterator[tuple[Element, Element]]:
    """Yield each control of a row with its panel: ``<p><button>A</button> <button>B</button></p>`` before
    ``<div hidden>…</div> <div hidden>…</div>``, as many of one kind as the row has controls."""
    folded = [*page.select("[hidden], [style*=none]"), *styles.in_sheets]
    for parent in {node.parent: None for node in folded}:
        siblings = defaultdict[tuple[str, object], list[Element]](list)
        for node in _elements(parent) if isinstance(parent, Element) else ():
            siblings[node.tag, node.attr("class")].append(node)
        for panels in siblings.values():
            row = next(_elements(panels[0].previous_siblings), None)
            controls = row.select(_CONTROLS) if row is not None and len(panels) > 1 else ()
            if len(controls) == len(panels) and any(styles.marks(node).is_hidden for node in panels):
                yield from zip(controls, panels, strict=True)


# Reading


@dataclass(frozen=True, slots=True)
class _Survey:
    """What is found on a page before its text is read."""

    styles: _Styles
    controls: frozenset[Element]
    older_mails: frozenset[Element]
    notes: Mapping[str, str]
    """Marks of notes by the id of the note."""
    panels: _Panels
    lost: dict[str, None]
    """Kinds of losses, "pictures without text": the one thing that reading adds here."""


@dataclass(frozen=True, slots=True)
class _Defined:
    """What is in a dt or dd."""

    blocks: tuple[model.Block, ...]
    is_term: bool
    """Whether it is a dt whose paragraphs are in force."""


_Part = model.Run | None | model.Block | _Defined
"""What a text or element adds to the blocks of the element around it, in reading order:

| part | what it adds |
| --- | --- |
| Run | a piece of the paragraph that is open; it opens one |
| each other part | the end of that paragraph, and: |
| None | nothing |
| Block | itself |
| _Defined | its blocks, if it is a term or none is before it; else a list of one item, whose marker are
  the terms |
"""


def _joined(parts: Iterable[_Part]) -> tuple[model.Block, ...]:
    """Return the blocks of parts. "<dt>PA</dt><dt>Prior auth</dt><dd>Approval first.</dd>" is an item
    "PA, Prior auth:" of a list, and a second dd another one."""
    blocks: list[model.Block] = []
    runs: list[model.Run] = []  # of the open paragraph
    terms: list[model.Block] = []  # the last blocks, as far as they are terms
    marker = ""  # of the last block, if it is such an item
    for part in (*parts, None):
        if isinstance(part, model.Run):
            runs.append(part)
            continue
        if paragraph := model.trimmed(runs):
            blocks.append(model.Paragraph(paragraph))
            terms, marker = [], ""
        runs = []
        match part:
            case None:
                continue
            case _Defined(is_term=True):
                blocks += part.blocks
                terms = [*terms, *part.blocks]
                continue
            case _Defined() if part.blocks and (terms or marker):
                names = ", ".join(model.text_of(term).rstrip(":") for term in model.all_runs(terms))
                marker = f"{names}:" if terms else marker
                blocks[len(blocks) - len(terms) :] = [model.List((model.Item(marker, part.blocks),))]
                terms = []
                continue
            case _Defined():
                blocks += part.blocks
            case _:
                blocks.append(part)
        terms, marker = [], ""
    return tuple(blocks)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads what is in one element. The elements in it are read by readers that ``inside`` returns."""

    page: _Survey
    style: model.Run = _PLAIN
    """An empty run with the marks of the element and of those around it."""
    depth: int = 0
    """How many ``blocks`` are made around: of lists, cells, headings, definitions, older mails."""
    font: str = ""

    def inside(self, node: Element) -> _Reader:
        """Return the reader of what is in an element. A panel that a control opens counts as shown."""
        marks = self.page.styles.marks(node)
        if marks.is_hidden and (node in self.page.panels.headings or _follows_control(node)):
            marks = replace(marks, is_hidden=False)
        font = self.page.styles.font(node, self.font)
        if marks == _PLAIN and font == self.font:
            return self
        return replace(self, style=marks.inside(self.style), font=font)

    def blocks_in(self, node: Element) -> tuple[model.Block, ...]:
        """Return the blocks of what is in an element, and what it is called."""
        blocks = self.inside(node).blocks(node)
        label = "" if node.tag == "th" and blocks else _label(node)
        named = model.Paragraph(model.plain(f"({label})" if blocks else label))
        return (*blocks, named) if label else blocks

    def blocks(self, nodes: Iterable[Node]) -> tuple[model.Block, ...]:
        """Return the blocks of nodes, apart from what is around them.

        Raises DocumentInvalidError where more than _DEEPEST_BLOCKS would be made inside each other.
        """
        if self.depth == _DEEPEST_BLOCKS:
            raise DocumentInvalidError(f"HTML lists are nested deeper than {_DEEPEST_BLOCKS}.")
        reader = replace(self, depth=self.depth + 1)
        return _joined(part for node in nodes for part in reader._parts(node))

    def _parts(self, node: Node) -> Iterable[_Part]:
        """Return what a text adds, or an element with all that is in it; nothing else is content."""
        if isinstance(node, Text):
            return (self._run(_SPACES.sub(" ", node.data)),)
        if not isinstance(node, Element):
            return ()
        reader = self.inside(node)
        parts = reader._parts_of(node)
        heading = self.page.panels.headings.get(node)
        return (model.Heading(_PANEL_HEADING, (reader._run(heading),)), *parts) if heading else parts

    def _parts_of(self, node: Element) -> Iterable[_Part]:
        """Return what an element adds. The reader must be that of ``inside(node)``; the first case that fits
        holds."""
        tag = node.tag
        if tag == "br":
            return (self._run("\n"),)
        if tag == "hr":
            return (None, *([model.Paragraph((model.Run("---"),))] if self.depth == 1 else ()))
        if node in self.page.controls:
            return self._control(node)
        if node in self.page.older_mails:
            return (model.OlderText(self.blocks(node)),)
        if tag in _NOTE_TAGS and (mark := self.page.notes.get(node.attr("id") or "")):
            return (model.Note(mark, self.blocks(node)),)
        if level := _heading_level(node):
            return self._heading(node, level)
        match tag:
            case "pre":
                tables = preformatted(node.text) if self.style == _PLAIN else ()
                return tables or (model.Paragraph((self._run(node.text),)),)
            case "table" if not _is_layout(node):  # one that is layout is in _BLOCK_TAGS
                return self._table(node)
            case "math":
                return (self._run(f" {_formula(node)} "),)
            case "rt" | "rp":  # an rp has the parentheses around an rt
                return (self._run(f" ({node.text})"),) if tag == "rt" else ()
            case "ul" | "ol":
                return self._list(node)
            case "dt" | "dd":
                blocks = self.blocks(node) if tag == "dt" else self.blocks_in(node)
                in_force = (
                    isinstance(block, model.Paragraph) and all(run.is_in_force for run in block.runs)
                    for block in blocks
                )
                return (None, _Defined(blocks, is_term=tag == "dt" and all(in_force)))
            case "input" | "select" | "textarea" | "img":
                return (self._run(f" {self._text_of_field(node)} "),)
            case _ if (_LABELLED.fullmatch(tag) or node.attr("role") == "img") and (label := _label(node)):
                shown = self._children(node) if _is_shown(node) else ()
                return chain(shown, [self._run(f" ({label}) " if shown else f" {label} ")])
            case _ if _BLOCK_TAGS.fullmatch(tag):
                return chain([None], self._children(node), [None])
            case _:
                apart = () if _INLINE_TAGS.fullmatch(tag) else (model.Run(" "),)
                return chain(apart, self._children(node), apart)

    def _run(self, text: str) -> model.Run:
        shown = symbols(text, self.font)
        if UNKNOWN_SYMBOL in shown and UNKNOWN_SYMBOL not in text:
            self.page.lost["symbols of a font that is not known"] = None
        return replace(self.style, text=shown)

    def _children(self, node: Element) -> Iterator[_Part]:
        """Yield what is in an element.

        In a tile, "<div><b>$5</b><span>a day</span></div>", a space is between elements of two tags: it is
        "$5 a day". None is beside a raised or lowered text: "$5<sup>1</sup>".
        """
        is_tile = node.tag == "div" and all(isinstance(child, Element) for child in node)
        tag_before = ""
        for child in node:
            if is_tile and isinstance(child, Element):
                if len({tag_before, child.tag} - _SHIFTS.keys()) == 2:
                    yield model.Run(" ")
                tag_before = child.tag
            yield from self._parts(child)

    def _heading(self, node: Element, level: int) -> Iterable[_Part]:
        runs = _in_one_line(self.blocks(node))
        return (model.Heading(level, runs) if runs else None,)

    def _control(self, node: Element) -> Iterable[_Part]:
        """Return what a control says: as a heading where it opens the panel after it.

        The control of a panel that was found by its id has said it above the panel (``_parts``).
        """
        if node.closest(", ".join(_HEADINGS)) is not None:  # a heading already
            return self._children(node)
        if node in self.page.panels.controls:
            return ()
        if self._folds_next(node):
            return self._heading(node, _PANEL_HEADING)
        return chain([self._run(" ")], self._children(node), [self._run(" ")])  # a button between words

    def _folds_next(self, control: Element) -> bool:
        """Return whether what follows a control is folded until it is pressed."""
        after = next(_elements(control.next_siblings), None)
        is_after_hidden = after is not None and (
            after.attr("aria-hidden") is not None or self.page.styles.marks(after).is_hidden
        )
        return control.tag == "summary" or control.attr("aria-expanded") is not None or is_after_hidden

    def _text_of_field(self, node: Element) -> str:
        """Return what a picture or a field of a form shows. A picture without text is a loss."""
        kind = (node.attr("type") or "text").lower()
        if node.tag == "img":
            shown = next(filter(None, map(node.attr, ("alt", "aria-label", "title"))), "")
            if not shown and node.attr("alt") is None:
                self.page.lost["pictures without text"] = None
            return " ".join(shown.split())
        if node.tag == "select":
            options = node.select("option[selected]") or node.select("option")
            return ", ".join(filter(None, (" ".join(option.text.split()) for option in options)))
        if node.tag == "textarea":
            return node.text
        if kind in ("checkbox", "radio"):
            return "\u2610" if node.attr("checked") is None else "\u2611"
        return "" if kind in _INPUTS_WITHOUT_VALUE else node.attr("value") or ""

    def _list(self, node: Element) -> Iterator[_Part]:
        """Yield a list. What is between its items belongs to the item before."""
        yield None
        numbers = self._numbers(node)
        items: list[model.Item] = []
        notes: list[model.Block] = []
        for child in node:
            if isinstance(child, Element) and child.tag == "li":
                marker = next(numbers) if node.tag == "ol" else node.attr("data-sign") or "-"
                if child.attr("id") in self.page.notes:
                    notes += self.blocks([child])
                elif blocks := self.blocks_in(child):
                    items.append(model.Item(marker, blocks))
            elif blocks := self.blocks([child]):
                before = items.pop() if items else model.Item("", ())
                items.append(replace(before, blocks=(*before.blocks, *blocks)))
        if items:
            yield model.List(tuple(items), is_ordered=node.tag == "ol")
        yield from notes

    def _numbers(self, node: Element) -> Iterator[str]:
        """Yield the number of each li of a list as it is shown: "4.", or "IV." in a list of type "I"."""
        items = [child for child in _elements(node) if child.tag == "li"]
        declared = self.page.styles.declarations(node)
        style = _COUNTER_STYLE.search(declared.get("list-style-type") or declared.get("list-style", ""))
        kind = node.attr("type") or "1"
        if style:
            kind = _COUNTERS[style[2]].upper() if style[1] == "upper" else _COUNTERS[style[2]]
        end = node.attr("data-end") or "."  # written by the reader of Markdown
        first, step = (1, 1) if node.attr("reversed") is None else (len(items), -1)
        number = _number(node.attr("start"), first)
        for item in items:
            number = _number(item.attr("value"), number)
            yield f"{model.counted(number, item.attr('type') or kind)}{end}"
            number += step

    def _table(self, table: Element) -> Iterator[_Part]:
        """Yield a table below its caption.

        Where no row names its columns, the first cells with ``data-label`` do: a table for narrow screens.
        """
        yield None
        own = (
            row for row in table.select("tr") if row.closest("table") is table
        )  # none of a table in a cell
        rows = [
            (self._inside_row(row), row, [cell for cell in row.select("th, td") if cell.closest("tr") is row])
            for row in own
        ]
        cells = [tuple(reader._cell(cell) for cell in elements) for reader, _, elements in rows]
        heads = [*takewhile(lambda row: _is_head(row[1], row[2]), rows)]
        header_rows = sum(not reader.style.is_hidden for reader, _, _ in heads) % len(rows)  # all: none
        all_labels = ([element.attr("data-label") or "" for element in elements] for _, _, elements in rows)
        labels = next((labels for labels in all_labels if any(labels)), list[str]())
        if labels and not header_rows:
            cells.insert(0, tuple(model.Cell((model.Paragraph(model.plain(label)),)) for label in labels))
            header_rows = 1
        colors = (
            {
                at: color
                for at, cell in enumerate(elements)
                if (color := self.page.styles.color(cell)) or cell.text.strip()
            }
            for _, _, elements in rows
        )
        if model.are_telling(colors):
            self.page.lost["colors of cells"] = None
        for caption in table.select("caption")[:1]:
            yield model.Paragraph(_in_one_line(self.blocks_in(caption)))
        yield from table_blocks(cells, header_rows=header_rows)

    def _inside_row(self, row: Element) -> _Reader:
        part = row.closest("thead, tbody, tfoot")
        return (self if part is None or part is not row.parent else self.inside(part)).inside(row)

    def _cell(self, cell: Element) -> model.Cell:
        """Return a cell with the rows and columns that it spans."""
        rows, columns = (
            max(1, min(_number(cell.attr(name), 1), _WIDEST_SPAN)) for name in ("rowspan", "colspan")
        )
        blocks = self.blocks_in(cell)
        if not blocks and cell.select_one(_SHOWN_ONLY) is not None:
            self.page.lost["cells that show only a picture"] = None
        return model.Cell(blocks, rows, columns, _is_name(cell))


def _is_head(row: Element, cells: Iterable[Element]) -> bool:
    """Return whether the page says that a row names columns: in a thead, or where all with a text are th."""
    tags = {cell.tag for cell in cells if cell.text.strip()}
    return row.matches("thead > tr") or tags == {"th"}


def _is_name(cell: Element) -> bool:
    """Return whether a cell is shown as a name: a ``th``, or all in bold letters."""
    bold = " ".join(element.text for element in cell.select("b, strong"))
    return cell.tag == "th" or (bool(bold.strip()) and bold.split() == cell.text.split())


def _label(node: Element) -> str:
    """Return what an element is called for those who do not see it: an icon, or "½" that is "50 % after 9
    months". "" where the text of it or beside it says the same. What a link is called in ``title``, and a
    part of a page in either, is no text."""
    titled = None if node.tag == "a" else node.attr("title")
    label = " ".join((node.attr("aria-label") or titled or "").split())
    if not label or (node.tag == "div" and any(map(str.isalnum, node.text))):
        return ""
    near = (*islice(node.previous_siblings, _NEAR), node, *islice(node.next_siblings, _NEAR))
    texts = (
        each.text if isinstance(each, Element) else each.data
        for each in near
        if isinstance(each, Element | Text)
    )
    return "" if label.casefold() in " ".join(" ".join(texts).split()).casefold() else label


def _is_shown(node: Element) -> bool:
    """Return whether an element has text, other than a letter of a font of icons, or something else in it
    that shows."""
    signs = "".join(node.text.split())
    return any(category(sign) != "Co" for sign in signs) or node.select_one("img, input") is not None


def _heading_level(node: Element) -> int:
    """Return the level of a heading, 1 to 6; 0 for other elements."""
    if node.tag in _HEADINGS or node.attr("role") != "heading":
        return _HEADINGS.get(node.tag, 0)
    return min(6, max(1, _number(node.attr("aria-level"), 2)))


def _in_one_line(blocks: Iterable[model.Block]) -> model.Runs:
    """Return the text of a heading, caption or margin as runs, with a space between its blocks."""
    return model.trimmed(run for runs in model.all_runs(blocks) for run in (model.Run(" "), *runs))


def _panel_ids(control: Element) -> set[str]:
    """Return the ids of the panels that an element opens: "p1" of ``href="#p1"`` or ``data-target="#p1"``."""
    named = (name for key in _CONTROLLED for name in (control.attr(key) or "").split())
    return {
        *(name.removeprefix("#") for name in named if name.startswith("#") or control.attr("aria-controls")),
        *_QUOTED_NAME.findall(control.attr("onclick") or ""),
    } - {""}


def _is_layout(table: Element) -> bool:
    """Return whether a table only places parts of the page."""
    is_role = table.attr("role") in ("presentation", "none")
    is_placing = is_role or (table.select_one("table") is not None and not _is_list_around_tables(table))
    has_headings = table.select_one("h1, h2, h3, h4, h5, h6") is not None
    return is_placing or (has_headings and table.select_one("th") is None)


def _is_list_around_tables(table: Element) -> bool:
    """Return whether a table with tables in it has names and rows of its own: most of its rows, the first one
    too, have the same number of cells and no table in them."""
    parts = [row for part in _elements(table) for row in (_elements(part) if part.tag != "tr" else (part,))]
    rows = [row for row in parts if row.tag == "tr"]
    widths = [0 if row.select_one("table") is not None else len([*_elements(row)]) for row in rows]
    return len(rows) > 2 and widths[0] > 1 and 2 * widths.count(widths[0]) > len(rows)


def _formula(node: Element) -> str:
    """Return a formula of MathML on one line: "a/b" of ``<mfrac><mi>a</mi><mi>b</mi></mfrac>``."""
    children = [*_elements(node)]
    if children:
        parts = [(child.tag, text) for child in children if (text := _formula(child))]
        line = model.linear(node.tag, [text for _, text in parts], [tag for tag, _ in parts])
        return f"({line})" if node.tag == "mfenced" else line
    text = " ".join(node.text.split())
    is_sign = node.tag == "mo" and len(text) == 1 and text not in "()[]{}|,!\u2061\u2062"
    return "" if node.tag.startswith("annotation") else f" {text} " if is_sign else text


def _follows_control(node: Element) -> bool:
    """Return whether the element before this one is a control or has one: a hidden element after it is a
    panel that the control opens."""
    before = next(_elements(node.previous_siblings), None)
    return before is not None and (before.matches(_CONTROLS) or before.select_one(_CONTROLS) is not None)


def _elements(nodes: Iterable[Node]) -> Iterator[Element]:
    return (node for node in nodes if isinstance(node, Element))


def _number(value: str | None, default: int) -> int:
    """Return a whole number of an attribute, between -9,999 and 9,999."""
    text = (value or "").strip()
    return int(text) if re.fullmatch(r"-?\d{1,4}", text) else default
