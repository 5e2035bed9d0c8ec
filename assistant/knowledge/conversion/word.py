"""Reads Word documents into the page model: the XML of their parts, as Word shows it
with all changes accepted.

Elements have the names of ``ooxml.tree``: those of WordprocessingML without a prefix.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from xml.etree.ElementTree import Element
from zipfile import ZipFile

from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.conversion.containers import BROKEN, macros, open_container
from assistant.knowledge.conversion.encodings import decoded, decoded_page
from assistant.knowledge.conversion.numbering import DEEPEST_LEVEL, Numbering, Point, counted, nested
from assistant.knowledge.conversion.ooxml import (
    UNKNOWN_SYMBOL,
    Relations,
    banner_of,
    caption,
    diagram_texts,
    is_on,
    linear,
    number,
    part,
    symbols,
    words_of,
)
from assistant.knowledge.conversion.plain import one_line, title_of
from assistant.knowledge.conversion.tables import table_blocks
from assistant.knowledge.page import (
    Block,
    Cell,
    Figure,
    Heading,
    Item,
    Loss,
    Note,
    Page,
    Paragraph,
    Run,
    Shift,
    plain,
    text_of,
)
from assistant.knowledge.parsing.html import Style, all_runs, read_html, trimmed

_BODY = "word/document.xml"
_DEEPEST = 150
"""Elements inside each other. A text box in a cell of a table has 25."""
_DEEPEST_CHUNK = 3
"""Documents that are inserted into each other as parts (altChunk)."""
_WIDEST_SPAN = 1000
_HEADING = re.compile(r"heading ([1-9])", re.I)
_WORDS = re.compile(r'"([^"]*)"|(\S+)')
"""Of the instruction of a field."""
_UNSHOWN = frozenset(
    ["XE", "TC", "TA", "RD", "SET", "ASK", "PRIVATE", "NEXT", "NEXTIF", "SKIPIF", "FORMTEXT", "HYPERLINK"]
)
"""Kinds of fields that show nothing where they have no result."""
_OF_EACH_PAGE = frozenset(["PAGE", "NUMPAGES", "SECTIONPAGES", "SECTION", "STYLEREF"])
"""Kinds of fields that show another text on each page."""
_PAGE_FIELD = "\ufdd3"
"""Stands for a field of _OF_EACH_PAGE while a header or footer is read."""
_LONGEST_LABEL = 8
"""Letters of "Page" in other languages. A word in capitals ("DRAFT 3") is no label."""
_CUTS = re.compile(r"[\t\n|\u2022\u00b7\u2013\u2014]| - ")
"""Between the parts of a line of a header."""
_PROPERTIES = frozenset(["vertAlign", "position", "strike", "dstrike", "vanish"])
_TOGGLES = ("strike", "vanish")
"""A style of characters turns them off again where the paragraph's style turns them on."""
_WRAPPERS = frozenset(["sdt", "sdtContent", "customXml", "ins", "moveTo", "smartTag"])
_SKIPPED = frozenset(
    [
        "pPr",
        "rPr",
        "tblPr",
        "sdtPr",
        "sdtEndPr",
        "sectPr",
        "softHyphen",
        "footnoteRef",
        "endnoteRef",
        "delInstrText",
    ]
)
_TEXTS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "\u2011"}
_NOTES = {"footnoteReference": "footnote", "endnoteReference": "endnote"}


def convert_docx(raw: bytes) -> Page:
    """Return a Word document. Raises DocumentInvalidError."""
    return _read(raw, 0)


def _read(raw: bytes, chunks: int) -> Page:
    with open_container(raw, part=_BODY) as container:
        try:
            return _Reader(container, chunks).page()
        except BROKEN as error:
            problem = f"it is not a whole Word file ({type(error).__name__})"
            raise DocumentInvalidError(f"{problem}. Open it in Word and save it again.") from None


@dataclass(slots=True)
class _Field:
    """A field that has begun: in its instruction, then in its result."""

    instruction: str = ""
    in_result: bool = False
    has_result: bool = False
    form: Element | None = None
    """What a field of a form holds."""

    def parts(self) -> tuple[str, str, str]:
        """Return its kind, its first argument, and the place in a page that it leads to."""
        kind, *words = ["".join(found) for found in _WORDS.findall(self.instruction)] or [""]
        place = words.index("\\l") + 1 if "\\l" in words[:-1] else len(words)
        arguments = [word for at, word in enumerate(words) if at != place and not word.startswith("\\")]
        return kind.upper(), "".join(arguments[:1]), "".join(words[place : place + 1])


@dataclass(slots=True)
class _Draft:
    """A cell, to which rows below may add."""

    blocks: tuple[Block, ...]
    rows: int = 1
    columns: int = 1


@dataclass(slots=True)
class _Flow:
    """What is read of a body, a cell or a text box."""

    blocks: list[Block | Point]
    runs: list[Run]
    """Of the paragraph that is read; of one whose end was deleted, in front of the next one."""
    after: list[Block]
    """What stands after the paragraph: pictures, text boxes, notes."""


class _Styles:
    """Styles with what they take over from others."""

    def __init__(self, root: Element | None) -> None:
        found = () if root is None else root.findall("style")
        self._styles = {style.get("styleId", ""): style for style in found}
        self.default = next(
            (
                name
                for name, style in self._styles.items()
                if style.get("default") and style.get("type") == "paragraph"
            ),
            "",
        )
        self.lists = {
            name: value.get("val", "")
            for name, style in self._styles.items()
            if (value := style.find("pPr/numPr/numId")) is not None
        }
        self._properties: dict[str, dict[str, str]] = {}
        self._levels: dict[str, int] = {}

    def chain(self, name: str) -> Iterator[tuple[str, Element]]:
        """Yield a style and those that it is based on."""
        seen = set[str]()
        while name in self._styles and name not in seen:
            seen.add(name)
            yield name, self._styles[name]
            base = self._styles[name].find("basedOn")
            name = "" if base is None else base.get("val", "")

    def properties(self, name: str) -> dict[str, str]:
        """Return the properties of its runs."""
        if name not in self._properties:
            merged: dict[str, str] = {}
            for _, style in self.chain(name):
                merged = _properties(style.find("rPr")) | merged
            self._properties[name] = merged
        return self._properties[name]

    def level(self, name: str) -> int:
        """Return the level of the headings of a style; 0 for other paragraphs."""
        if name not in self._levels:
            self._levels[name] = next(filter(None, (_level(style) for _, style in self.chain(name))), 0) % 10
        return self._levels[name]


def _level(style: Element) -> int:
    """Return a style's own level of headings; 0 if it does not say, 10 if it says that it has none."""
    title, outline = style.find("name"), style.find("pPr/outlineLvl")
    named = "" if title is None else title.get("val", "")
    if found := _HEADING.fullmatch(named):
        return int(found[1])
    if outline is not None:
        return number(outline) + 1
    return {"title": 1, "normal": 10, "subtitle": 10}.get(named.lower(), 0)


def _properties(element: Element | None) -> dict[str, str]:
    return (
        {} if element is None else {one.tag: one.get("val", "1") for one in element if one.tag in _PROPERTIES}
    )


class _Reader:
    """Reads a document's parts. What is not read is counted in ``_lost``."""

    def __init__(self, container: ZipFile, chunks: int) -> None:
        self._container, self._chunks = container, chunks
        self._relations = Relations(container, _BODY)
        self._parts = {
            kind: part(container, self._relations.by_kind.get(kind))
            for kind in ("styles", "numbering", "footnotes", "endnotes", "comments", "settings")
        }
        self._styles = _Styles(self._parts["styles"])
        self._numbering = Numbering(self._parts["numbering"], self._styles.lists)
        self._lost: Counter[str] = Counter()
        self._flow = _Flow([], [], [])
        self._paragraph_properties: Mapping[str, str] = {}
        self._fields: list[_Field] = []
        self._note_counts: Counter[str] = Counter()
        self._formula: Run | None = None
        """The last formula: what follows is not a part of its last number."""
        self._in_margin = False
        """Whether a header or footer is read."""
        self._depth = 0

    def page(self) -> Page:
        root = part(self._container, _BODY)
        if root is None:
            raise ValueError(_BODY)
        blocks = self._inside(root)
        banner, further = self._margins(root)
        if (comments := self._parts["comments"]) is not None and (words := words_of([comments])):
            self._lost["comments"] += words
        headings = [block for block in blocks if isinstance(block, Heading) and block.level <= 2]
        first = min(headings, key=lambda heading: heading.level, default=None)
        losses = tuple(Loss(what, words=words) for what, words in self._lost.items())
        return Page(
            (*(Paragraph(plain(line)) for line in further), *blocks),
            title=title_of(text_of(first.runs)) if first is not None else None,
            banner=banner,
            losses=(*map(Loss, macros(self._container)), *losses),
        )

    # Blocks

    def _inside(self, element: Element, style: Style = Style()) -> tuple[Block, ...]:  # noqa: B008 - frozen
        """Return the blocks in an element, apart from what is around it."""
        outer, self._flow = self._flow, _Flow([], [], [])
        properties, fields = self._paragraph_properties, len(self._fields)
        self._walk(element, style)
        self._end_paragraph(None, "")
        blocks, self._flow = nested(self._flow.blocks), outer
        self._paragraph_properties = properties
        del self._fields[fields:]
        return blocks

    def _walk(self, element: Element, style: Style) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise DocumentInvalidError(
                f"its elements are nested deeper than {_DEEPEST}. Simplify it in Word."
            )
        for child in element:
            self._take(child, style)
        self._depth -= 1

    def _take(self, element: Element, style: Style) -> None:
        tag = element.tag
        match tag:
            case "r":
                self._run(element, style)
            case "t" | "m_t":
                self._text(element.text or "", style)
            case "p":
                self._paragraph(element, style)
            case _ if tag in _SKIPPED:
                pass
            case _ if tag in _TEXTS:
                self._text(_TEXTS[tag], style)
            case "tbl":
                self._table(element, style)
            case "hyperlink":
                address = self._relations.targets.get(element.get("r_id", ""), "")
                anchor = element.get("anchor", "")
                self._walk(element, replace(style, link=f"{address}#{anchor}" if anchor else address))
            case "del" | "moveFrom":
                self._lost["words deleted in tracked changes"] += words_of([_wrapped(element)])
            case "sdt":
                self._control(element, style)
            case "fldSimple":
                self._fields.append(_Field(element.get("instr", ""), in_result=True))
                self._walk(element, style)
                self._end_field(style)
            case "fldChar":
                self._field(element, style)
            case "instrText":
                if self._fields:
                    self._fields[-1].instruction += element.text or ""
            case "sym":
                sign = int(element.get("char", "0") or "0", 16)
                self._text(self._symbols(chr(sign), element.get("font", "")), style)
            case "footnoteReference" | "endnoteReference":
                self._note(element, _NOTES[tag], "")
            case "m_oMath":
                self._text(linear(element), style)
                self._formula = self._flow.runs[-1] if self._flow.runs else None
            case "mc_AlternateContent":
                self._walk(next(iter(element), element), style)
            case "txbxContent":
                self._flow.after += self._inside(element, Style(is_hidden=style.is_hidden))
            case "drawing" | "pict" | "object":
                self._drawing(element)
                self._walk(element, style)
            case "v_textpath":
                self._flow.after.append(Paragraph(plain(one_line(element.get("string", "")))))
            case "altChunk":
                self._chunk(element.get("r_id", ""))
            case "subDoc":
                self._lost["linked documents"] += 0
            case _:
                self._walk(element, style)

    def _paragraph(self, element: Element, style: Style) -> None:
        properties = element.find("pPr")
        name = self._styles.default
        if properties is not None and (found := properties.find("pStyle")) is not None:
            name = found.get("val", "")
        outer, self._paragraph_properties = self._paragraph_properties, self._styles.properties(name)
        self._walk(element, style)
        self._paragraph_properties = outer
        while self._fields and not self._fields[-1].in_result:  # an instruction ends with its paragraph
            self._fields.pop()
        if properties is not None and _goes_on(properties):
            return
        self._end_paragraph(properties, name)

    def _end_paragraph(self, properties: Element | None, name: str) -> None:
        """Add the runs as a block: a heading, an item of a list or a paragraph."""
        flow = self._flow
        runs, after = trimmed(_on_one_line(flow.runs)), tuple(flow.after)
        flow.runs, flow.after = [], []
        level = self._styles.level(name)
        if properties is not None and (outline := properties.find("outlineLvl")) is not None:
            level = (number(outline) + 1) % 10
        marker, is_ordered, place = self._marker(properties, name)
        if level and runs:
            numbered = plain(f"{marker} ") if is_ordered else ()
            flow.blocks += [Heading(min(level, 6), (*numbered, *runs)), *after]
        elif marker and (runs or after):
            blocks = (*((Paragraph(runs),) if runs else ()), *after)
            flow.blocks.append(Point(place, is_ordered, Item(marker, blocks)))
        else:
            flow.blocks += [*((Paragraph(runs),) if runs else ()), *after]

    def _marker(self, properties: Element | None, name: str) -> tuple[str, bool, int]:
        """Return what Word shows before a paragraph, whether it is a number, and the level of its list."""
        own = None if properties is None else properties.find("numPr")
        number_id = None if own is None else own.find("numId")
        place = number(None if own is None else own.find("ilvl"))
        if number_id is None:
            for style_id, style in self._styles.chain(name):
                if (number_id := style.find("pPr/numPr/numId")) is not None:
                    default = number(style.find("pPr/numPr/ilvl"), place)
                    list_id = number_id.get("val", "")
                    place = self._numbering.level_of_style(list_id, style_id, default)
                    break
        if number_id is None or not 0 <= place <= DEEPEST_LEVEL:
            return "", False, 0
        return (*self._numbering.next(number_id.get("val", ""), place), place)

    # Runs

    def _run(self, element: Element, style: Style) -> None:
        properties = element.find("rPr")
        styled, font = self._styled(properties, style), ""
        if properties is not None and (fonts := properties.find("rFonts")) is not None:
            font = fonts.get("ascii", "")
        reference = next((child for child in element if child.tag in _NOTES), None)
        if reference is not None and is_on(_valued(reference.get("customMarkFollows", "0"))):
            self._note(
                reference, _NOTES[reference.tag], "".join(text.text or "" for text in element.iter("t"))
            )
            return
        for child in element:
            if child.tag == "t":
                self._text(self._symbols(child.text or "", font), styled)
            else:
                self._take(child, styled)

    def _styled(self, properties: Element | None, style: Style) -> Style:
        merged, own = self._paragraph_properties, _properties(properties)
        name = None if properties is None else properties.find("rStyle")
        if name is not None and (of_style := self._styles.properties(name.get("val", ""))):
            both = [key for key in _TOGGLES if _is_on(merged, key) and _is_on(of_style, key)]
            merged = {**merged, **of_style, **dict.fromkeys(both, "0")}
        if not merged and not own:
            return style
        merged = {**merged, **own}
        position = merged.get("position", "0").removesuffix("pt")
        raised = float(position) if re.fullmatch(r"-?\d{1,4}(\.\d+)?", position) else 0
        align = merged.get("vertAlign", "baseline")
        is_raised = align == "superscript" or (align == "baseline" and raised > 0)
        is_lowered = align == "subscript" or (align == "baseline" and raised < 0)
        return replace(
            style,
            shift=Shift.RAISED if is_raised else Shift.LOWERED if is_lowered else Shift.NONE,
            is_struck=style.is_struck or _is_on(merged, "strike") or _is_on(merged, "dstrike"),
            is_hidden=style.is_hidden or _is_on(merged, "vanish"),
        )

    def _symbols(self, text: str, font: str) -> str:
        shown = symbols(text, font)
        if UNKNOWN_SYMBOL in shown:
            self._lost["symbols of a font that is not known"] += 0
        return shown

    def _text(self, text: str, style: Style) -> None:
        if not text:
            return
        link = style.link
        for field in self._fields:
            kind, address, place = field.parts()
            if not field.in_result or (self._in_margin and kind in _OF_EACH_PAGE):
                return
            field.has_result = True
            if kind == "HYPERLINK":
                link = f"{address}#{place}" if place else address
        runs = self._flow.runs
        if runs and runs[-1] is self._formula and runs[-1].text[-1:].isalnum() and text[0].isalnum():
            text = f" {text}"
        runs.append(replace(style, link=link).run(text))

    # Fields and controls

    def _field(self, element: Element, style: Style) -> None:
        match element.get("fldCharType"):
            case "begin":
                self._fields.append(_Field(form=element.find("ffData")))
            case "separate" if self._fields:
                self._fields[-1].in_result = True
            case "end" if self._fields:
                self._end_field(style)
            case _:
                pass

    def _end_field(self, style: Style) -> None:
        field = self._fields.pop()
        kind, argument, _ = field.parts()
        form = field.form
        if self._in_margin and kind in _OF_EACH_PAGE:
            self._text(_PAGE_FIELD, style)
        elif kind == "FORMCHECKBOX" and form is not None:
            state = form.find("checkBox/checked")
            self._text(_check_mark(form.find("checkBox/default") if state is None else state), style)
        elif kind == "FORMDROPDOWN" and form is not None:
            entries = [entry.get("val", "") for entry in form.iter("listEntry")]
            chosen = number(form.find("ddList/result"), number(form.find("ddList/default")))
            self._text(entries[chosen] if 0 <= chosen < len(entries) else "", style)
        elif not field.has_result and kind and kind not in _UNSHOWN:
            name = argument if kind in ("DOCPROPERTY", "DOCVARIABLE") else kind
            shown = field.instruction.strip()[2:] if kind == "EQ" else self._values().get(name.lower(), "")
            self._text(shown, style)
            if not shown:
                self._lost["fields without a stored value"] += 0

    def _values(self) -> Mapping[str, str]:
        """Return the properties and variables of the document, by their names in small letters."""
        values: dict[str, str] = {}
        for name in ("core", "app"):
            for value in part(self._container, f"docProps/{name}.xml") or ():
                values[value.tag.rpartition("_")[2].lower()] = value.text or ""
        values["author"] = values.get("creator", "")
        settings = self._parts["settings"]
        for variable in () if settings is None else settings.iter("docVar"):
            values[variable.get("name", "").lower()] = variable.get("val", "")
        for own in part(self._container, "docProps/custom.xml") or ():
            values[own.get("name", "").lower()] = "".join(own.itertext()).strip()
        return values

    def _control(self, element: Element, style: Style) -> None:
        box = element.find("sdtPr/w14_checkbox")
        if box is None or element.find("sdtContent/p") is not None:
            self._walk(element, style)
        else:
            state = box.find("w14_checked")
            value = "0" if state is None else state.get("w14_val", "1")
            self._text(_check_mark(_valued(value)), style)

    # Notes, pictures and inserted parts

    def _note(self, reference: Element, kind: str, mark: str) -> None:
        if not mark:
            settings = self._parts["settings"]
            chosen = None if settings is None else settings.find(f"{kind}Pr/numFmt")
            start = None if settings is None else settings.find(f"{kind}Pr/numStart")
            usual = "decimal" if kind == "footnote" else "lowerRoman"
            count = self._note_counts[kind] + number(start, 1)
            self._note_counts[kind] += 1
            mark = counted(count, usual if chosen is None else chosen.get("val", usual))
        notes = self._parts[f"{kind}s"]
        ids = () if notes is None else notes.findall(kind)
        note = next((note for note in ids if note.get("id") == reference.get("id")), None)
        self._text_of_note(mark)
        if note is not None:
            blocks = self._inside_part(note, self._relations.by_kind.get(f"{kind}s", ""))
            self._flow.after.append(Note(mark, blocks))

    def _text_of_note(self, mark: str) -> None:
        if all(field.in_result for field in self._fields):
            self._flow.runs.append(Run(mark, Shift.RAISED, is_note_mark=True))

    def _inside_part(self, element: Element, name: str) -> tuple[Block, ...]:
        outer, self._relations = self._relations, Relations(self._container, name)
        fields, self._fields = self._fields, []
        blocks = self._inside(element)
        self._relations, self._fields = outer, fields
        return blocks

    def _drawing(self, element: Element) -> None:
        """Add a picture, chart or diagram with the text that its author gave it."""
        for field in self._fields:
            field.has_result = True
        kinds = {_DRAWN[inner.tag] for inner in element.iter() if inner.tag in _DRAWN}
        described = (
            inner.get(name, "")
            for inner in element.iter()
            for name in ("descr", "title", "alt")
            if inner.tag in ("wp_docPr", "v_shape", "v_rect")
        )
        words = caption(next(filter(None, described), ""))
        if (kinds or words) and not self._in_margin:
            kind = next((kind for kind in ("chart", "diagram") if kind in kinds), "picture")
            self._flow.after.append(Figure(words, kind=kind))
        for inner in element.iter("dgm_relIds"):
            data = part(self._container, self._relations.targets.get(inner.get("r_dm", "")))
            self._flow.after += [Paragraph(plain(text)) for text in diagram_texts(data)]

    def _chunk(self, relation: str) -> None:
        """Add a file that is inserted as a part."""
        name = self._relations.targets.get(relation, "")
        suffix = name.rpartition(".")[2].lower()
        raw = self._container.read(name) if name in self._container.namelist() else b""
        if suffix in ("htm", "html", "xhtml"):
            self._flow.blocks += read_html(decoded_page(raw)).blocks
        elif suffix == "txt":
            lines = re.split(r"\r?\n\s*\n", decoded(raw))
            self._flow.blocks += [Paragraph(plain(line), is_plain=True) for line in lines if line.strip()]
        elif suffix in ("docx", "docm") and self._chunks < _DEEPEST_CHUNK:
            inserted = _read(raw, self._chunks + 1)
            self._flow.blocks += inserted.blocks
            self._lost.update({loss.what: loss.words for loss in inserted.losses})
        else:
            self._lost[f"inserted {suffix or 'unknown'} files"] += 0

    # Tables

    def _table(self, element: Element, style: Style) -> None:
        rows: list[list[_Draft]] = []
        above: dict[int, _Draft] = {}
        """Cells that a cell below may go on with, by their column."""
        declared = 0
        for row in _wrapped_in(element, "tr"):
            properties = row.find("trPr")
            if properties is not None and properties.find("del") is not None:
                self._lost["words deleted in tracked changes"] += words_of([row])
                continue
            is_hidden = properties is not None and is_on(properties.find("hidden"))
            drafts = self._row(row, above, replace(style, is_hidden=style.is_hidden or is_hidden))
            if declared == len(rows) and properties is not None and is_on(properties.find("tblHeader")):
                declared += 1
            rows.append(drafts)
        cells = [[Cell(draft.blocks, draft.rows, draft.columns) for draft in row] for row in rows]
        self._flow.blocks += table_blocks(cells, header_rows=declared)

    def _row(self, row: Element, above: dict[int, _Draft], style: Style) -> list[_Draft]:
        column = min(number(row.find("trPr/gridBefore")), _WIDEST_SPAN)
        drafts = [_Draft((), columns=column)] if column > 0 else []
        for cell in _wrapped_in(row, "tc"):
            properties = cell.find("tcPr")
            merge = None if properties is None else properties.find("vMerge")
            beside = None if properties is None else properties.find("hMerge")
            span = number(None if properties is None else properties.find("gridSpan"), 1)
            span = max(1, min(span, _WIDEST_SPAN))
            blocks = self._inside(cell, style)
            upper = above.get(column)
            if beside is not None and beside.get("val", "continue") == "continue" and drafts:
                drafts[-1].columns += span
                drafts[-1].blocks += blocks
            elif _continues(merge) and upper is not None and upper.columns == span:
                upper.rows += 1
                upper.blocks += blocks
            else:
                drafts.append(_Draft(blocks, columns=span))
                above.pop(column, None)
                if merge is not None:
                    above[column] = drafts[-1]
            column += span
        return drafts

    # Headers and footers

    def _margins(self, root: Element) -> tuple[str, list[str]]:
        """Return the banner: what headers, footers and watermarks say beyond a page's number; and what does
        not fit into it."""
        settings = self._parts["settings"]
        has_even = settings is not None and is_on(settings.find("evenAndOddHeaders"))
        seen: dict[str, None] = {}
        self._in_margin = True
        for section in root.iter("sectPr"):
            kinds = [
                "default",
                *(["first"] if is_on(section.find("titlePg")) else []),
                *(["even"] if has_even else []),
            ]
            for reference in section:
                if (
                    reference.tag not in ("headerReference", "footerReference")
                    or reference.get("type") not in kinds
                ):
                    continue
                name = self._relations.targets.get(reference.get("r_id", ""), "")
                if name not in seen and (margin := part(self._container, name)) is not None:
                    lines = _margin_lines(self._inside_part(margin, name))
                    seen |= dict.fromkeys(lines)
        self._in_margin = False
        return banner_of(seen)


_DRAWN = {"pic_pic": "picture", "v_imagedata": "picture", "c_chart": "chart", "dgm_relIds": "diagram"}


def _margin_lines(blocks: Iterable[Block]) -> Iterator[str]:
    """Yield what a header or footer says, without the numbers of pages."""
    for runs in all_runs(blocks):
        text = "".join(run.text for run in runs if not run.is_struck and not run.is_hidden)
        if _PAGE_FIELD not in text and any(map(str.isalnum, text)):
            yield one_line(text)
            continue
        parts = (one_line(text) for text in _CUTS.split(text))
        kept = (found for found in parts if any(map(str.isalnum, found)) and not _is_page_number(found))
        if line := " \u2013 ".join(one_line(found.replace(_PAGE_FIELD, "")) for found in kept):
            yield line


def _is_page_number(text: str) -> bool:
    """Return whether a text is a page's number, with at most a short word before each of its fields."""
    *labels, rest = text.split(_PAGE_FIELD)
    words = [word for label in labels for word in label.split() if any(map(str.isalnum, word))]
    are_short = all(len(word) <= _LONGEST_LABEL and not (word.isupper() and len(word) > 4) for word in words)
    return bool(labels) and are_short and len(words) <= len(labels) and not any(map(str.isalnum, rest))


def _goes_on(properties: Element) -> bool:
    """Return whether the next paragraph is on the same line: its end was deleted, or it is an initial."""
    end, frame = properties.find("rPr"), properties.find("framePr")
    is_deleted = end is not None and (end.find("del") is not None or end.find("moveFrom") is not None)
    return is_deleted or (frame is not None and frame.get("dropCap", "none") != "none")


def _on_one_line(runs: Sequence[Run]) -> Iterable[Run]:
    """Return runs that are all raised or lowered alike as ones that are not: nothing is beside them."""
    shifts = {run.shift for run in runs if run.text.strip()}
    is_alone = len(shifts) == 1 and not any(run.is_note_mark for run in runs)
    return (replace(run, shift=Shift.NONE) for run in runs) if is_alone else runs


def _wrapped_in(element: Element, tag: str) -> Iterator[Element]:
    """Yield rows of a table or cells of a row, also those that are wrapped in controls and changes."""
    for child in element:
        if child.tag == tag:
            yield child
        elif child.tag in _WRAPPERS:
            yield from _wrapped_in(child, tag)


def _wrapped(element: Element) -> Element:
    """Return an element in a paragraph, whose words are counted."""
    paragraph = Element("p")
    paragraph.append(element)
    return paragraph


def _is_on(properties: Mapping[str, str], name: str) -> bool:
    return properties.get(name, "0") not in ("0", "false", "off")


def _valued(value: str) -> Element:
    return Element("value", {"val": value})


def _check_mark(state: Element | None) -> str:
    return "\u2611" if is_on(state) else "\u2610"


def _continues(merge: Element | None) -> bool:
    return merge is not None and merge.get("val", "continue") == "continue"
