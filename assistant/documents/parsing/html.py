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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

from turbohtml import Document, Element, Node, SelectorSyntaxError, Text, parse

from assistant.documents import page as model
from assistant.documents.parsing.render import table_blocks
from assistant.domain.errors import DocumentInvalidError

DEEPEST_NESTING = 200
"""Elements around an element, and itself, in a page that is parsed. The parser itself stops at 512."""
_DEEPEST_BLOCKS = 40
"""Lists and definitions around a block: a page of deeper ones cannot be stored."""

# What the page shows, and where: selectors
_UNSEEN = "script, style, noscript, svg, iframe, object"
_REPEATED = "nav, [role=navigation], [role=banner], [role=contentinfo], [role=search], [role=complementary]"
_MARGINS = "header, footer"
_WORKING = "a[href], button, form, img, input, h1, h2, h3, h4, h5, h6"
"""What a header or footer has that only leads elsewhere, or names the page."""
_OLDER_MAILS = "blockquote[type=cite], .gmail_quote, .yahoo_quoted, .protonmail_quote"
"""What programs for e-mail write around an older mail."""

# Styles
_COMMENT = re.compile(r"/\*[^*]*\*+(?:[^/*][^*]*\*+)*/")
_TELLING = re.compile(r"display|font-size|list-style|opacity|text-decoration|vertical-align|visibility", re.I)
"""Properties that say what is struck, hidden, raised or counted; rules without them are not looked at."""
_ZERO = re.compile(r"0(?:\.0*)?[a-z%]*")
_SHOWING = "[style*=font-size], [style*=visibility]"
"""What may show text again in an element whose own text is hidden."""
_COUNTER_STYLE = re.compile(r"\b(lower|upper)-(alpha|latin|roman)\b")

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
    r"p|blockquote|address|figure|figcaption|dl|hr|center|legend|body|main|article|section|div"
    r"|header|footer|aside|form|fieldset|dialog|hgroup|details|tbody|table|tr|td|th|li"
)
"""Elements that begin and end a paragraph."""
_INLINE_TAGS = re.compile(
    r"a|abbr|b|cite|code|del|em|font|i|ins|kbd|label|mark|q|s|samp|small|span|strike|strong|sub"
    r"|sup|u|var|wbr"
)
"""Elements that do not separate words."""
_PLAIN = model.Run("")
_WIDEST_SPAN = 1000
_SPACES = re.compile(r"\s+")


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
    declared = _declared_in_sheets(page)
    body.remove(_UNSEEN)
    words = _word_count(body)
    root = _main(page, is_whole=is_whole) or body
    walker = _Walker(page, declared)
    in_root = frozenset(() if root is body else root.select(_MARGINS))
    margins = (element for element in (body.select(_MARGINS) if is_whole else ()) if element not in in_root)
    banner = walker.banner(element for element in margins if element.closest("article, section") is None)
    root.remove(_REPEATED if root is not body or not is_whole else f"{_REPEATED}, {_MARGINS}, aside")
    beside = words - _word_count(root) - len(banner.split())
    losses = (model.Loss(model.BESIDE_WORDS, words=beside),) if beside > 0 else ()
    return walker.page(root, losses, banner)


def _word_count(element: Element) -> int:
    return sum(len(text.split()) for text in element.stripped_strings)


def _main(page: Document, *, is_whole: bool) -> Element | None:
    """Return the main element. In it headers and asides are content; around it they are repeated on each
    page."""
    candidates = map(page.select, ("main", "[role=main]", "article")) if is_whole else ()
    return next((elements[0] for elements in candidates if len(elements) == 1), None)


@lru_cache
def _properties(declarations: str) -> Mapping[str, str]:
    """Return the value of each property: {"display": "none"} of "Display: none !important". The last one of
    a name holds."""
    parts = (part.partition(":") for part in declarations.lower().split(";"))
    return {name.strip(): value.removesuffix("!important").strip() for name, _, value in parts}


def _declared_in_sheets(page: Document) -> dict[Element, str]:
    """Return what the page's own style sheets declare of an element: "display:none;opacity:0;".

    Rules inside other braces, as "@media print {…}", are left out; ``depth`` is the number of braces that are
    open.
    """
    declared: dict[Element, str] = {}
    for sheet in page.select("style"):
        depth = 0
        for rule in _COMMENT.sub("", sheet.text).split("}"):
            selectors, _, declarations = rule.rpartition("{")
            if depth == 0 and "{" not in selectors and _TELLING.search(declarations):
                with suppress(SelectorSyntaxError):  # of a kind that no element has, as "p::before"
                    for element in page.select(selectors.strip()):
                        declared[element] = f"{declared.get(element, '')}{declarations};"
            depth = max(0, depth + rule.count("{") - 1)
    return declared


class _Walker:
    """Turns the elements of one page into blocks, in one walk.

    Text is added to ``_runs``, marked as ``_style`` says, until a block begins or ends: then the runs become
    a paragraph of ``_blocks``. An element inside which the walk is changes these three, and sets them back.
    """

    def __init__(self, page: Document, declared: Mapping[Element, str]) -> None:
        self._declared = declared
        """Declarations of style sheets, in their order."""
        self._controls = frozenset(page.select(_CONTROLS))
        self._older_mails = frozenset(page.select(_OLDER_MAILS))
        self._panels: dict[Element, str] = {}
        """Panels that a control opens, and what the control says where no heading has it."""
        self._used_controls = set[Element]()
        """Controls whose words are the heading of their panel: they are not read a second time."""
        for control, panel in self._controls_and_panels(page):
            is_alone = control in self._controls and control.closest(_HAS_HEADING) is None
            words = " ".join(control.text.split()) if is_alone else ""
            self._panels[panel] = words or self._panels.get(panel, "")
            self._used_controls |= {control} if words else set()
        self._losses: tuple[model.Loss, ...] = ()
        self._style = _PLAIN
        """Marks of the elements around the text: an empty run."""
        self._depth = 0
        """Calls of ``_blocks_of`` that are open."""
        self._blocks: list[model.Block] = []
        self._runs: list[model.Run] = []
        self._terms: list[model.Paragraph] = []
        """Paragraphs at the end of ``_blocks`` that may be terms of the definition that follows."""

    def page(self, element: Element, losses: tuple[model.Loss, ...], banner: str) -> model.Page:
        """Return the page of its main element. ``losses``: what is beside it."""
        return model.Page(self._blocks_of(*element), banner=banner, losses=(*losses, *self._losses))

    def banner(self, margins: Iterable[Element]) -> str:
        """Return what headers and footers that lead nowhere say in one line."""
        stamps = (self._runs_of(margin) for margin in margins if margin.select_one(_WORKING) is None)
        texts = (model.text_of(run for run in runs if run.is_in_force) for runs in stamps)
        return model.banner_of(dict.fromkeys(" ".join(text.split()) for text in texts if text.strip()))[0]

    def _controls_and_panels(self, page: Document) -> Iterator[tuple[Element, Element]]:
        """Yield each control with each panel that it names by an id, or that has its place below a row of
        controls."""
        by_id = {element.attr("id"): element for element in page.select("[id]")}
        for control in page.select(f"{_CONTROLS}, {', '.join(f'[{name}]' for name in _CONTROLLED)}"):
            yield from ((control, by_id[name]) for name in _panels_of(control) & by_id.keys())
        yield from self._panels_below_rows(page)

    def _panels_below_rows(self, page: Document) -> Iterator[tuple[Element, Element]]:
        """Yield each control of a row with its panel: ``<p><button>A</button> <button>B</button></p>`` before
        ``<div hidden>…</div> <div hidden>…</div>``, as many of one kind as the row has controls."""
        folded = [*page.select("[hidden], [style*=none]"), *self._declared] if self._controls else ()
        for parent in {node.parent: None for node in folded}:
            siblings = defaultdict[tuple[str, object], list[Element]](list)
            for node in parent if isinstance(parent, Element) else ():
                if isinstance(node, Element):
                    siblings[node.tag, node.attr("class")].append(node)
            for panels in siblings.values():
                row = _element_before(panels[0])
                controls = row.select(_CONTROLS) if row is not None and len(panels) > 1 else ()
                if len(controls) == len(panels) and any(self._style_of(node).is_hidden for node in panels):
                    yield from zip(controls, panels, strict=True)

    def _end_paragraph(self) -> None:
        """Make a paragraph of the collected runs, if they have text."""
        runs = model.trimmed(self._runs)
        self._runs = []
        if runs:
            self._blocks.append(model.Paragraph(runs))

    def _add(self, node: Node) -> None:
        """Add a text, or an element with all that is in it; nothing else is content."""
        if isinstance(node, Text):
            self._add_text(_SPACES.sub(" ", node.data))
        elif isinstance(node, Element):
            outer, self._style = self._style, self._style_inside(node)
            self._add_element(node, node.tag)
            self._style = outer

    def _add_text(self, text: str) -> None:
        self._runs.append(replace(self._style, text=text))

    def _style_inside(self, node: Element) -> model.Run:
        """Return how the text in an element is marked, by it and by the elements around it."""
        style = self._style_of(node)
        if style.is_hidden and (node in self._panels or _follows_control(node)):
            style = replace(style, is_hidden=False)
        return self._style if style == _PLAIN else style.inside(self._style)

    def _style_of(self, node: Element) -> model.Run:
        """Return how an element itself marks its text, by its tag, attributes and declarations."""
        link = (node.attr("href") or "") if node.tag == "a" else ""
        is_hidden = node.attr("hidden") is not None or (node.tag == "dialog" and node.attr("open") is None)
        shift, is_struck = _SHIFTS.get(node.tag, model.Shift.NONE), node.tag in _STRUCK
        if declared := self._declarations_of(node):
            shift = _SHIFTS.get(declared.get("vertical-align", ""), shift)
            is_struck |= any("line-through" in declared.get(name, "") for name in _DECORATIONS)
            is_hidden |= declared.get("display") == "none"
            is_hidden |= _ZERO.fullmatch(declared.get("opacity", "")) is not None
            if declared.get("visibility") == "hidden" or _ZERO.fullmatch(declared.get("font-size", "")):
                is_hidden |= node.select_one(_SHOWING) is None
        return model.Run("", shift, is_struck, is_hidden, link)

    def _declarations_of(self, node: Element) -> Mapping[str, str]:
        """Return the values of CSS properties, by the style sheets and by the element's own attribute."""
        declarations = self._declared.get(node, "") + (node.attr("style") or "")
        return _properties(declarations) if declarations else {}

    def _add_element(self, node: Element, tag: str) -> None:
        if name := self._panels.get(node):
            self._end_paragraph()
            self._blocks.append(model.Heading(_PANEL_HEADING, (replace(self._style, text=name),)))
        if tag == "br":
            self._add_text("\n")
        elif self._controls and node in self._controls:
            self._add_control(node)
        elif self._older_mails and node in self._older_mails:
            self._end_paragraph()
            self._blocks.append(model.OlderText(self._blocks_of(*node)))
        elif tag in _HEADINGS or node.attr("role") == "heading":
            self._add_heading(node, _HEADINGS.get(tag) or min(6, max(1, _number(node.attr("aria-level"), 2))))
        elif tag == "pre":
            self._end_paragraph()
            self._blocks.append(model.Paragraph((replace(self._style, text=node.text),)))
        elif tag == "table" and not _is_layout(node):  # one that is layout is a block like others
            self._add_table(node)
        elif tag == "math":
            self._add_text(f" {_formula(node)} ")
        elif tag in ("rp", "rt"):
            self._add_text(f" ({node.text})" if tag == "rt" else "")
        elif tag in ("ul", "ol"):
            self._add_list(node, is_ordered=tag == "ol")
        elif tag in ("dt", "dd"):
            self._add_definition(node)
        elif tag in ("input", "select", "textarea", "img"):
            self._add_text(f" {self._text_of_field(node, tag)} ")
        elif _BLOCK_TAGS.fullmatch(tag):
            self._end_paragraph()
            self._add_children(node)
            self._end_paragraph()
        else:
            is_inline = _INLINE_TAGS.fullmatch(tag) is not None
            self._runs += [] if is_inline else [model.Run(" ")]
            self._add_children(node)
            self._runs += [] if is_inline else [model.Run(" ")]

    def _add_children(self, node: Element) -> None:
        """Add what is in an element.

        In a tile, "<div><b>$5</b><span>a day</span></div>", a space is between elements of two tags: it is
        "$5 a day". None is beside a raised or lowered text: "$5<sup>1</sup>".
        """
        is_tile = node.tag == "div" and all(isinstance(child, Element) for child in node)
        tag_before = ""
        for child in node:
            if is_tile and isinstance(child, Element):
                if len({tag_before, child.tag} - _SHIFTS.keys()) == 2:
                    self._runs.append(model.Run(" "))
                tag_before = child.tag
            self._add(child)

    def _add_heading(self, node: Element, level: int) -> None:
        self._end_paragraph()
        runs = self._runs_of(node)
        if runs:
            self._blocks.append(model.Heading(level, runs))

    def _add_control(self, node: Element) -> None:
        """Add what a control says: as a heading where it opens the panel after it.

        The control of a panel that was found by its id has said it above the panel (``_add_element``).
        """
        after = next((sibling for sibling in node.next_siblings if isinstance(sibling, Element)), None)
        if node.closest(", ".join(_HEADINGS)) is not None:  # a heading already
            self._add_children(node)
        elif node in self._used_controls:
            return
        elif (  # what follows is folded until it is pressed
            node.tag == "summary"
            or node.attr("aria-expanded") is not None
            or (
                after is not None
                and (after.attr("aria-hidden") is not None or self._style_of(after).is_hidden)
            )
        ):
            self._add_heading(node, _PANEL_HEADING)
        else:  # a button between words
            self._add_text(" ")
            self._add_children(node)
            self._add_text(" ")

    def _text_of_field(self, node: Element, tag: str) -> str:
        """Return what a picture or a field of a form shows. A picture without text is a loss."""
        kind = (node.attr("type") or "text").lower()
        if tag == "img":
            if node.attr("alt") is None:
                self._losses = (model.Loss("pictures without text"),)
            return " ".join((node.attr("alt") or "").split())
        if tag == "select":
            options = node.select("option[selected]") or node.select("option")
            return ", ".join(filter(None, (" ".join(option.text.split()) for option in options)))
        if tag == "textarea":
            return node.text
        if kind in ("checkbox", "radio"):
            return "\u2610" if node.attr("checked") is None else "\u2611"
        return "" if kind in _INPUTS_WITHOUT_VALUE else node.attr("value") or ""

    def _add_list(self, node: Element, *, is_ordered: bool) -> None:
        self._end_paragraph()
        is_reversed = node.attr("reversed") is not None
        count = sum(isinstance(child, Element) and child.tag == "li" for child in node)
        number = _number(node.attr("start"), count if is_reversed else 1)
        declared = self._declarations_of(node)
        style = _COUNTER_STYLE.search(declared.get("list-style-type") or declared.get("list-style", ""))
        kind = node.attr("type") or "1"
        if style:  # "upper-roman" is type "I", "lower-alpha" is "a"
            kind = "i" if style[2].lower() == "roman" else "a"
            kind = kind.upper() if style[1].lower() == "upper" else kind
        items: list[model.Item] = []
        end = node.attr("data-end") or "."  # written by the reader of Markdown
        for child in node:
            if not isinstance(child, Element) or child.tag != "li":  # it belongs to the item before
                inner = self._blocks_of(child)
                if items and inner:
                    items[-1] = replace(items[-1], blocks=(*items[-1].blocks, *inner))
                elif inner:
                    items.append(model.Item("", inner))
                continue
            number = _number(child.attr("value"), number)
            marker = f"{model.counted(number, child.attr('type') or kind)}{end}" if is_ordered else "-"
            if blocks := self._blocks_inside(child):
                items.append(model.Item(marker, blocks))
            number += -1 if is_reversed else 1
        if items:
            self._blocks.append(model.List(tuple(items), is_ordered=is_ordered))

    def _blocks_inside(self, node: Element) -> tuple[model.Block, ...]:
        """Return the blocks in an element, by its own style too."""
        outer, self._style = self._style, self._style_inside(node)
        blocks = self._blocks_of(*node)
        self._style = outer
        return blocks

    def _blocks_of(self, *nodes: Node) -> tuple[model.Block, ...]:
        """Return the blocks of nodes, apart from what is around them.

        Raises DocumentInvalidError where more than _DEEPEST_BLOCKS of these calls are open.
        """
        outer = self._blocks, self._runs
        self._blocks, self._runs = [], []
        self._depth += 1
        if self._depth > _DEEPEST_BLOCKS:
            raise DocumentInvalidError(f"HTML lists are nested deeper than {_DEEPEST_BLOCKS}.")
        for node in nodes:
            self._add(node)
        self._end_paragraph()
        blocks = tuple(self._blocks)
        self._blocks, self._runs = outer
        self._depth -= 1
        return blocks

    def _add_definition(self, node: Element) -> None:
        """Add a term (dt) as a paragraph; the meaning (dd) that follows takes it back as its marker.

        "<dt>PA</dt><dt>Prior auth</dt><dd>Approval first.</dd>" is an item "PA, Prior auth:" of a list.
        """
        self._end_paragraph()
        blocks = self._blocks_of(*node)
        if node.tag == "dt":
            terms = (block for block in blocks if isinstance(block, model.Paragraph))
            self._terms += (term for term in terms if all(run.is_in_force for run in term.runs))
            self._blocks += blocks
            return
        names: list[str] = []
        while self._terms and self._blocks and self._blocks[-1] is self._terms[-1]:
            del self._blocks[-1]
            names.insert(0, model.text_of(self._terms.pop().runs).rstrip(":"))
        self._blocks += (
            (model.List((model.Item(f"{', '.join(names)}:", blocks),)),) if names and blocks else blocks
        )

    def _add_table(self, table: Element) -> None:
        self._end_paragraph()
        rows: list[tuple[model.Cell, ...]] = []
        labels: list[str] = []
        """Names of columns that the first cells with ``data-label`` have, of a table for narrow screens."""
        header_rows, is_header = 0, True
        for row in table.select("tr"):
            outer, parent = self._style, row.parent
            part = parent.tag if isinstance(parent, Element) else ""
            if isinstance(parent, Element) and part in ("thead", "tbody", "tfoot"):
                self._style = self._style_inside(parent)
            self._style = self._style_inside(row)
            cells = row.select("th, td")
            rows.append(tuple(self._cell(cell) for cell in cells))  # cells above may span all of an empty one
            is_header = is_header and _names_columns(cells, part, is_below_header=header_rows > 0)
            header_rows += is_header and not self._style.is_hidden
            labels = labels if any(labels) else [cell.attr("data-label") or "" for cell in cells]
            self._style = outer
        if any(labels) and not header_rows:
            rows.insert(0, tuple(model.Cell((model.Paragraph(model.plain(label)),)) for label in labels))
            header_rows = 1
        for caption in table.select("caption")[:1]:
            self._blocks.append(model.Paragraph(self._runs_of(caption)))
        self._blocks += table_blocks(rows, header_rows=header_rows)

    def _cell(self, cell: Element) -> model.Cell:
        """Return a cell with the rows and columns that it spans."""
        rows, columns = (
            max(1, min(_number(cell.attr(name), 1), _WIDEST_SPAN)) for name in ("rowspan", "colspan")
        )
        return model.Cell(self._blocks_inside(cell), rows, columns)

    def _runs_of(self, element: Element) -> model.Runs:
        """Return the text of a heading, caption or term as runs, with a space between its blocks."""
        paragraphs = model.all_runs(self._blocks_inside(element))
        return model.trimmed(run for runs in paragraphs for run in (model.Run(" "), *runs))


def _panels_of(control: Element) -> set[str]:
    """Return the ids of the panels that an element opens: "p1" of ``href="#p1"`` or ``data-target="#p1"``."""
    named = (name for key in _CONTROLLED for name in (control.attr(key) or "").split())
    return {
        *(name.removeprefix("#") for name in named if name.startswith("#") or control.attr("aria-controls")),
        *_QUOTED_NAME.findall(control.attr("onclick") or ""),
    } - {""}


def _names_columns(cells: Sequence[Element], part: str, *, is_below_header: bool) -> bool:
    """Return whether a row at the top of a table names its columns.

    ``part``: the tag around the row. It does in a thead, where it is empty below such a row, or where all of
    its cells are th or empty.
    """
    if part == "thead" or not cells:
        return part == "thead" or is_below_header
    is_named = any(cell.tag == "th" for cell in cells)
    return is_named and all(cell.tag == "th" or not cell.text.strip() for cell in cells)


def _is_layout(table: Element) -> bool:
    """Return whether a table only places parts of the page."""
    is_placing = table.attr("role") in ("presentation", "none") or table.select_one("table") is not None
    has_headings = table.select_one("h1, h2, h3, h4, h5, h6") is not None
    return is_placing or (has_headings and table.select_one("th") is None)


def _formula(node: Element) -> str:
    """Return a formula of MathML on one line: "a/b" of ``<mfrac><mi>a</mi><mi>b</mi></mfrac>``."""
    children = [child for child in node if isinstance(child, Element)]
    if children:
        parts = [(child.tag, text) for child in children if (text := _formula(child))]
        line = model.linear(node.tag, [text for _, text in parts], [tag for tag, _ in parts])
        return f"({line})" if node.tag == "mfenced" else line
    text = " ".join(node.text.split())
    is_sign = node.tag == "mo" and len(text) == 1 and text not in "()[]{}|,!\u2061\u2062"
    return "" if node.tag.startswith("annotation") else f" {text} " if is_sign else text


def _follows_control(node: Element) -> bool:
    """Return whether the element is a folded panel: what stands before it is, or ends in, a control."""
    before = _element_before(node)
    return before is not None and (before.matches(_CONTROLS) or before.select_one(_CONTROLS) is not None)


def _element_before(node: Element) -> Element | None:
    return next((sibling for sibling in node.previous_siblings if isinstance(sibling, Element)), None)


def _number(value: str | None, default: int) -> int:
    """Return a whole number of an attribute, between -9,999 and 9,999."""
    text = (value or "").strip()
    return int(text) if re.fullmatch(r"-?\d{1,4}", text) else default
