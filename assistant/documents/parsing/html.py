"""Reads HTML into the page model by turbohtml: the main content, without repeated parts of a page.

Elements that the page hides are read and marked, but for panels that a button opens: these are content.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
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
_UNSEEN = "script, style, noscript, svg, iframe, object"
_REPEATED = "nav, [role=navigation], [role=banner], [role=contentinfo], [role=search], [role=complementary]"
_MARGINS = "header, footer"
_WORKING = "a[href], button, form, img, input, h1, h2, h3, h4, h5, h6"
"""What a header or footer has that only leads elsewhere, or names the page."""
_COMMENT = re.compile(r"/\*[^*]*\*+(?:[^/*][^*]*\*+)*/")
_TELLING = re.compile(r"display|font-size|list-style|opacity|text-decoration|vertical-align|visibility", re.I)
"""Properties that say what is struck, hidden, raised or counted; rules without them are not looked at."""
_ZERO = re.compile(r"0(?:\.0*)?[a-z%]*")
_SHOWING = "[style*=font-size], [style*=visibility]"
"""What may show text again in an element whose own text is hidden."""
_COUNTING = re.compile(r"\b(lower|upper)-(alpha|latin|roman)\b")
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_HEADED = ", ".join(("summary", *_HEADINGS))
_STRUCK = frozenset(["del", "s", "strike"])
_DECORATIONS = frozenset(["text-decoration", "text-decoration-line"])
_SHIFTS = {"sup": model.Shift.RAISED, "super": model.Shift.RAISED, "sub": model.Shift.LOWERED}
"""Shift of a text, by tag or by the value of ``vertical-align``."""
_CONTROLS = "button, summary, [role=button], [role=tab], [data-toggle], [data-bs-toggle]"
_CONTROLLED = ("aria-controls", "data-target", "data-bs-target", "href")
"""Attributes by which a control names the panel that it opens."""
_QUOTED_NAME = re.compile(r"""["']#?([\w-]{1,60})["']""")
"""Name of what a control opens, in its script: "show('p1')"."""
_PANEL_HEADING = 4
"""Level of a control that opens a panel, where no heading is around it."""
_UNSHOWN = ("hidden", "image", "password", "file")
"""Inputs that show no value."""
_BLOCKS = re.compile(
    r"p|blockquote|address|figure|figcaption|dl|hr|center|legend|body|main|article|section|div"
    r"|header|footer|aside|form|fieldset|dialog|hgroup|details|tbody|table|tr|td|th|li"
)
_INLINE = re.compile(
    r"a|abbr|b|cite|code|del|em|font|i|ins|kbd|label|mark|q|s|samp|small|span|strike|strong|sub"
    r"|sup|u|var|wbr"
)
"""Elements that do not separate words."""
_OLDER = "blockquote[type=cite], .gmail_quote, .yahoo_quoted, .protonmail_quote"
"""What programs for e-mail write around an older mail."""
_PLAIN = model.Run("")
_WIDEST_SPAN = 1000
_SPACES = re.compile(r"\s+")


def read_html(content: str, *, is_whole: bool = True) -> model.Page:
    """Return the main content of a whole page; of a part of one, all of it.

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
    inside = frozenset(() if root is body else root.select(_MARGINS))
    margins = (element for element in (body.select(_MARGINS) if is_whole else ()) if element not in inside)
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
    mains = map(page.select, ("main", "[role=main]", "article")) if is_whole else ()
    return next((found[0] for found in mains if len(found) == 1), None)


@lru_cache
def _properties(declarations: str) -> Mapping[str, str]:
    """Return the value of each property that is declared; the last one holds."""
    parts = (part.partition(":") for part in declarations.lower().split(";"))
    return {name.strip(): value.removesuffix("!important").strip() for name, _, value in parts}


def _declared_in_sheets(page: Document) -> dict[Element, str]:
    """Return what the page's own style sheets declare of an element; rules for some media are left out."""
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
    """Turns elements into blocks; collects runs of text until a block begins or ends."""

    def __init__(self, page: Document, declared: Mapping[Element, str]) -> None:
        self._declared = declared
        """Declarations of style sheets, in their order."""
        self._controls = frozenset(page.select(_CONTROLS))
        self._panels: dict[Element, str] = {}
        """Panels that a control opens, and what the control says where no heading has it."""
        self._named = set[Element]()
        """Controls that are the headings of their panels."""
        for control, panel in self._opened(page):
            is_alone = control in self._controls and control.closest(_HEADED) is None
            words = " ".join(control.text.split()) if is_alone else ""
            self._panels[panel] = words or self._panels.get(panel, "")
            self._named |= {control} if words else set()
        self._losses: tuple[model.Loss, ...] = ()
        self._older = frozenset(page.select(_OLDER))
        self._style = _PLAIN
        self._depth = 0
        self._blocks: list[model.Block] = []
        self._runs: list[model.Run] = []
        self._terms: list[model.Paragraph] = []
        """Paragraphs that may be terms of the definition that follows."""

    def page(self, element: Element, losses: tuple[model.Loss, ...], banner: str) -> model.Page:
        """Return the page of its main element. ``losses``: what is beside it."""
        return model.Page(self._inside(*element), banner=banner, losses=(*losses, *self._losses))

    def banner(self, margins: Iterable[Element]) -> str:
        """Return what headers and footers that lead nowhere say in one line."""
        stamps = (self._strings(each) for each in margins if each.select_one(_WORKING) is None)
        texts = (model.text_of(run for run in runs if run.is_in_force) for runs in stamps)
        return model.banner_of(dict.fromkeys(" ".join(text.split()) for text in texts if text.strip()))[0]

    def _opened(self, page: Document) -> Iterator[tuple[Element, Element]]:
        """Yield each control with each panel that it names, or that has its place below a row of controls: so
        many elements of one kind, some of them hidden."""
        by_id = {element.attr("id"): element for element in page.select("[id]")}
        for control in page.select(f"{_CONTROLS}, {', '.join(f'[{name}]' for name in _CONTROLLED)}"):
            yield from ((control, by_id[name]) for name in _panels_of(control) & by_id.keys())
        yield from self._panels_below_rows(page)

    def _panels_below_rows(self, page: Document) -> Iterator[tuple[Element, Element]]:
        """Yield each control of a row with its panel: ``<p><button>A</button> <button>B</button></p>`` before
        ``<div hidden>…</div> <div hidden>…</div>``, as many of one kind as the row has controls."""
        folded = [*page.select("[hidden], [style*=none]"), *self._declared] if self._controls else ()
        for parent in {node.parent: None for node in folded}:
            kinds = defaultdict[tuple[str, object], list[Element]](list)
            for node in parent if isinstance(parent, Element) else ():
                if isinstance(node, Element):
                    kinds[node.tag, node.attr("class")].append(node)
            for panels in kinds.values():
                row = next((node for node in panels[0].previous_siblings if isinstance(node, Element)), None)
                controls = row.select(_CONTROLS) if row is not None and len(panels) > 1 else ()
                if len(controls) == len(panels) and any(self._own(node).is_hidden for node in panels):
                    yield from zip(controls, panels, strict=True)

    def _flush(self) -> None:
        """End the paragraph of the collected runs."""
        runs = model.trimmed(self._runs)
        self._runs = []
        if runs:
            self._blocks.append(model.Paragraph(runs))

    def _take(self, node: Node) -> None:
        if isinstance(node, Text):
            self._show(_SPACES.sub(" ", node.data))
        elif isinstance(node, Element):
            outer, self._style = self._style, self._styled(node)
            self._take_element(node, node.tag)
            self._style = outer

    def _show(self, text: str) -> None:
        self._runs.append(replace(self._style, text=text))

    def _styled(self, node: Element) -> model.Run:
        """Return how the text in an element is marked, as an empty run."""
        style = self._own(node)
        if style.is_hidden and (node in self._panels or _follows_control(node)):
            style = replace(style, is_hidden=False)
        return self._style if style == _PLAIN else style.inside(self._style)

    def _own(self, node: Element) -> model.Run:
        link = (node.attr("href") or "") if node.tag == "a" else ""
        is_hidden = node.attr("hidden") is not None or (node.tag == "dialog" and node.attr("open") is None)
        shift, is_struck = _SHIFTS.get(node.tag, model.Shift.NONE), node.tag in _STRUCK
        if css := self._css(node):
            shift = _SHIFTS.get(css.get("vertical-align", ""), shift)
            is_struck |= any("line-through" in value for name, value in css.items() if name in _DECORATIONS)
            is_hidden |= css.get("display") == "none" or _ZERO.fullmatch(css.get("opacity", "")) is not None
            if css.get("visibility") == "hidden" or _ZERO.fullmatch(css.get("font-size", "")):
                is_hidden |= node.select_one(_SHOWING) is None
        return model.Run("", shift, is_struck, is_hidden, link)

    def _css(self, node: Element) -> Mapping[str, str]:
        declarations = self._declared.get(node, "") + (node.attr("style") or "")
        return _properties(declarations) if declarations else {}

    def _take_element(self, node: Element, tag: str) -> None:
        if name := self._panels.get(node):
            self._flush()
            self._blocks.append(model.Heading(_PANEL_HEADING, (replace(self._style, text=name),)))
        if tag == "br":
            self._show("\n")
        elif self._controls and node in self._controls:
            self._control(node)
        elif self._older and node in self._older:
            self._flush()
            self._blocks.append(model.OlderText(self._inside(*node)))
        elif tag in _HEADINGS or node.attr("role") == "heading":
            self._heading(node, _HEADINGS.get(tag) or min(6, max(1, _number(node.attr("aria-level"), 2))))
        elif tag == "pre":
            self._flush()
            self._blocks.append(model.Paragraph((replace(self._style, text=node.text),)))
        elif tag == "table" and not _is_layout(node):
            self._table(node)
        elif tag == "math":
            self._show(f" {_formula(node)} ")
        elif tag in ("rp", "rt"):
            self._show(f" ({node.text})" if tag == "rt" else "")
        elif tag in ("ul", "ol"):
            self._list(node, is_ordered=tag == "ol")
        elif tag in ("dt", "dd"):
            self._definition(node)
        elif tag in ("input", "select", "textarea", "img"):
            self._show(f" {self._shown(node, tag)} ")
        elif _BLOCKS.fullmatch(tag):  # a table that contains tables is layout
            self._flush()
            self._walk(node)
            self._flush()
        else:
            is_inline = _INLINE.fullmatch(tag) is not None
            self._runs += [] if is_inline else [model.Run(" ")]
            self._walk(node)
            self._runs += [] if is_inline else [model.Run(" ")]

    def _walk(self, node: Element) -> None:
        """Add what is in an element. Parts of a tile are apart: "<div><b>$5</b><span>a day</span></div>"."""
        is_tile = node.tag == "div" and all(isinstance(child, Element) for child in node)
        last = ""
        for child in node:
            if is_tile and isinstance(child, Element):
                tags, last = {child.tag, last}, child.tag
                self._runs += [model.Run(" ")] if len(tags - _SHIFTS.keys()) == 2 else []
            self._take(child)

    def _heading(self, node: Element, level: int) -> None:
        self._flush()
        runs = self._strings(node)
        if runs:
            self._blocks.append(model.Heading(level, runs))

    def _control(self, node: Element) -> None:
        """Add what a control says: as a heading where it opens the panel after it."""
        after = next((sibling for sibling in node.next_siblings if isinstance(sibling, Element)), None)
        if node.closest(", ".join(_HEADINGS)) is not None:  # a heading already
            self._walk(node)
        elif node in self._named:  # its panel, found by its id, begins with it
            return
        elif (  # what follows is folded until it is pressed
            node.tag == "summary"
            or node.attr("aria-expanded") is not None
            or (after is not None and (after.attr("aria-hidden") is not None or self._own(after).is_hidden))
        ):
            self._heading(node, _PANEL_HEADING)
        else:  # a button between words
            self._show(" ")
            self._walk(node)
            self._show(" ")

    def _shown(self, node: Element, tag: str) -> str:
        """Return what a picture or a field of a form shows."""
        kind = (node.attr("type") or "text").lower()
        if tag == "img":
            self._losses = (
                (model.Loss("pictures without text"),) if node.attr("alt") is None else self._losses
            )
            return " ".join((node.attr("alt") or "").split())
        if tag == "select":
            options = node.select("option[selected]") or node.select("option")
            return ", ".join(filter(None, (" ".join(option.text.split()) for option in options)))
        if tag == "textarea":
            return node.text
        if kind in ("checkbox", "radio"):
            return "\u2610" if node.attr("checked") is None else "\u2611"
        return "" if kind in _UNSHOWN else node.attr("value") or ""

    def _list(self, node: Element, *, is_ordered: bool) -> None:
        self._flush()
        is_reversed = node.attr("reversed") is not None
        count = sum(isinstance(child, Element) and child.tag == "li" for child in node)
        number = _number(node.attr("start"), count if is_reversed else 1)
        css = self._css(node)
        counting = _COUNTING.search(css.get("list-style-type") or css.get("list-style", ""))
        kind = node.attr("type") or "1"
        if counting:
            kind = "i" if counting[2].lower() == "roman" else "a"
            kind = kind.upper() if counting[1].lower() == "upper" else kind
        made: list[model.Item] = []
        end = node.attr("data-end") or "."  # written by the reader of Markdown
        for child in node:
            if not isinstance(child, Element) or child.tag != "li":  # it belongs to the item before
                inner = self._inside(child)
                if made and inner:
                    made[-1] = replace(made[-1], blocks=(*made[-1].blocks, *inner))
                elif inner:
                    made.append(model.Item("", inner))
                continue
            number = _number(child.attr("value"), number)
            marker = f"{model.counted(number, child.attr('type') or kind)}{end}" if is_ordered else "-"
            if blocks := self._read_styled(child):
                made.append(model.Item(marker, blocks))
            number += -1 if is_reversed else 1
        if made:
            self._blocks.append(model.List(tuple(made), is_ordered=is_ordered))

    def _read_styled(self, node: Element) -> tuple[model.Block, ...]:
        """Return the blocks in an element, by its own style too."""
        outer, self._style = self._style, self._styled(node)
        blocks = self._inside(*node)
        self._style = outer
        return blocks

    def _inside(self, *nodes: Node) -> tuple[model.Block, ...]:
        """Return the blocks of nodes, apart from what is around them."""
        outer = self._blocks, self._runs
        self._blocks, self._runs = [], []
        self._depth += 1
        if self._depth > _DEEPEST_BLOCKS:
            raise DocumentInvalidError(f"HTML lists are nested deeper than {_DEEPEST_BLOCKS}.")
        for node in nodes:
            self._take(node)
        self._flush()
        blocks = tuple(self._blocks)
        self._blocks, self._runs = outer
        self._depth -= 1
        return blocks

    def _definition(self, node: Element) -> None:
        """Add a term as a paragraph; it becomes the marker of the meaning that follows."""
        self._flush()
        blocks = self._inside(*node)
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

    def _table(self, table: Element) -> None:
        self._flush()
        rows: list[tuple[model.Cell, ...]] = []
        labels: list[str] = []
        header_rows, is_header = 0, True  # those at the top: of a thead, empty below a header, or all of th
        for row in table.select("tr"):
            outer, parent = self._style, row.parent
            part = parent.tag if isinstance(parent, Element) else ""
            if isinstance(parent, Element) and part in ("thead", "tbody", "tfoot"):
                self._style = self._styled(parent)
            self._style = self._styled(row)
            cells = row.select("th, td")
            rows.append(tuple(self._cell(cell) for cell in cells))  # cells above may span all of an empty one
            is_named = any(cell.tag == "th" for cell in cells)
            is_header = is_header and (
                part == "thead"
                or (not cells and header_rows > 0)
                or (is_named and all(cell.tag == "th" or not cell.text.strip() for cell in cells))
            )
            header_rows += is_header and not self._style.is_hidden
            labels = labels if any(labels) else [cell.attr("data-label") or "" for cell in cells]
            self._style = outer
        if any(labels) and not header_rows:
            rows.insert(0, tuple(model.Cell((model.Paragraph(model.plain(label)),)) for label in labels))
            header_rows = 1
        for caption in table.select("caption")[:1]:
            self._blocks.append(model.Paragraph(self._strings(caption)))
        self._blocks += table_blocks(rows, header_rows=header_rows)

    def _cell(self, cell: Element) -> model.Cell:
        rows, columns = (
            max(1, min(_number(cell.attr(name), 1), _WIDEST_SPAN)) for name in ("rowspan", "colspan")
        )
        return model.Cell(self._read_styled(cell), rows, columns)

    def _strings(self, element: Element) -> model.Runs:
        """Return the text of a heading, caption or term as runs, with a space between its blocks."""
        paragraphs = model.all_runs(self._read_styled(element))
        return model.trimmed(run for runs in paragraphs for run in (model.Run(" "), *runs))


def _panels_of(control: Element) -> set[str]:
    """Return the ids of the panels that an element opens."""
    named = (name for key in _CONTROLLED for name in (control.attr(key) or "").split())
    return {
        *(name.removeprefix("#") for name in named if name.startswith("#") or control.attr("aria-controls")),
        *_QUOTED_NAME.findall(control.attr("onclick") or ""),
    } - {""}


def _is_layout(table: Element) -> bool:
    """Return whether a table only places parts of the page."""
    is_placing = table.attr("role") in ("presentation", "none") or table.select_one("table") is not None
    has_headings = table.select_one("h1, h2, h3, h4, h5, h6") is not None
    return is_placing or (has_headings and table.select_one("th") is None)


def _formula(node: Element) -> str:
    """Return a formula of MathML on one line."""
    children = [child for child in node if isinstance(child, Element)]
    if children:
        found = [(child.tag, text) for child in children if (text := _formula(child))]
        line = model.linear(node.tag, [text for _, text in found], [tag for tag, _ in found])
        return f"({line})" if node.tag == "mfenced" else line
    text = " ".join(node.text.split())
    is_sign = node.tag == "mo" and len(text) == 1 and text not in "()[]{}|,!\u2061\u2062"
    return "" if node.tag.startswith("annotation") else f" {text} " if is_sign else text


def _follows_control(node: Element) -> bool:
    """Return whether the element is a folded panel: what stands before it is, or ends in, a control."""
    before = next((sibling for sibling in node.previous_siblings if isinstance(sibling, Element)), None)
    if before is None:
        return False
    return before.matches(_CONTROLS) or before.select_one(_CONTROLS) is not None


def _number(value: str | None, default: int) -> int:
    """Return a whole number of an attribute, between -9,999 and 9,999."""
    text = (value or "").strip()
    return int(text) if re.fullmatch(r"-?\d{1,4}", text) else default
