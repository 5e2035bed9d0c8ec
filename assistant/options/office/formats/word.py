"""Reads Word documents into the page model: the XML of their parts, as Word shows it with all
changes accepted.

Elements have the names of ``ooxml.tree``: those of WordprocessingML without a prefix ("p" is a paragraph, "r"
a run, "tbl" a table), those of drawings with "a_", of formulas with "m_".

``_Reader._take`` reads one element by its name and goes into it (``_walk``). Runs are gathered in a
``_Flow``, until ``_end_paragraph`` makes a block of them. A cell, a note and a text box have a flow of their
own (``_inside``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from xml.etree.ElementTree import Element
from zipfile import ZipFile

from assistant.documents import page as model
from assistant.documents.formats.text_files import decoded, decoded_page, text_blocks
from assistant.documents.parsing.html import read_html
from assistant.documents.symbols import UNKNOWN_SYMBOL, symbols
from assistant.documents.tables import table_blocks
from assistant.domain.errors import DocumentInvalidError
from assistant.options.office.formats import ooxml
from assistant.text.marks import PAGE_FIELD

_BODY = "word/document.xml"
_DEEPEST = 150
"""Elements inside each other. A text box in a cell of a table has 25."""
_WIDEST_SPAN = 1000
"""Columns of a cell. A file may say any number."""
_HEADING = re.compile(r"heading ([1-9])", re.I)
"""Name of a style: "heading 2"."""
_WORDS = re.compile(r'"([^"]*)"|(\S+)')
"""Words of a field's instruction: ``HYPERLINK "https://a.example" \\l place``."""
_UNSHOWN = frozenset(
    ["XE", "TC", "TA", "RD", "SET", "ASK", "PRIVATE", "NEXT", "NEXTIF", "SKIPIF", "FORMTEXT", "HYPERLINK"]
)
"""Kinds of fields that show nothing where they have no result."""
_OF_EACH_PAGE = frozenset(["PAGE", "NUMPAGES", "SECTIONPAGES", "SECTION", "STYLEREF"])
"""Kinds of fields that show another text on each page."""
_PAGE_NUMBER = re.compile(rf"(?<!\w)(?:(?![A-Z]{{5}})[^\W\d]{{1,8}}\W{{1,3}})?{PAGE_FIELD}")
"""A page's number with a short word before it. A word in capitals ("DRAFT 3") is none."""
_BETWEEN_PARTS = " |\u2022\u00b7\u2013\u2014-"
"""Signs between the parts of a header, of which the page's number is one."""
_PROPERTIES = frozenset(["vertAlign", "position", "strike", "dstrike", "vanish", "b"])
"""Properties of a run that are read: raised and lowered (two of them), struck (two), hidden, bold."""
_LONGEST_BOLD_HEADING = 12
"""Words of a paragraph in bold letters that may be a heading."""
_SENTENCE_ENDS = (".", "!", "?", ",", ";")
"""A bold paragraph that ends with one of them is no heading."""
_WRAPPERS = frozenset(["sdt", "sdtContent", "customXml", "ins", "moveTo", "smartTag"])
"""Elements that may stand around rows and cells: controls, and accepted changes."""
_TEXTS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "\u2011"}
"""Elements that stand for a character."""
_BOXES = "\u2610\u2611"
"""A check box that is not checked, and one that is."""
_FIRST_ROW = 0x20
"""The bit of a table's look for its first row."""
_NUM_ID = ("pPr", "numPr", "numId")
"""Way from a style to its list."""
_PLAIN = model.Run("")
"""A run's style: that of text without any."""
_NOTES = {"footnoteReference": "footnote", "endnoteReference": "endnote"}


def convert_docx(raw: bytes) -> model.Page:
    """Return a Word document. Raises DocumentInvalidError."""
    with ooxml.open_container(raw, part=_BODY) as container, ooxml.whole_file("Word"):
        return _Reader(container).page()


@dataclass(slots=True)
class _Field:
    """A field that has begun: in its instruction, then in its result, which is what Word shows.

    Its parts are runs of a paragraph: begin, instruction (``HYPERLINK "https://a.example" \\l place``),
    "separate", result ("our prices"), end.
    """

    instruction: str = ""
    in_result: bool = False
    has_result: bool = False
    form: Element | None = None
    """What a field of a form holds (``ffData``); None for any other field."""

    def parts(self) -> tuple[str, str, str]:
        """Return its kind, its first argument, and the place in a page that it leads to: ("HYPERLINK",
        "https://a.example", "place"). What is missing is ""."""
        # A word is in one of the pattern's two groups.
        kind, *words = ["".join(groups) for groups in _WORDS.findall(self.instruction)] or [""]
        place = words.index("\\l") + 1 if "\\l" in words[:-1] else len(words)
        arguments = [word for at, word in enumerate(words) if at != place and not word.startswith("\\")]
        return kind.upper(), "".join(arguments[:1]), "".join(words[place : place + 1])


@dataclass(slots=True)
class _Draft:
    """A cell, to which rows below add, and cells beside, where they are merged with it."""

    blocks: tuple[model.Block, ...]
    rows: int = 1
    columns: int = 1


@dataclass(slots=True)
class _Flow:
    """What is read of a body, a cell or a text box."""

    blocks: list[model.Block | ooxml.Point]
    runs: list[model.Run]
    """Runs of the paragraph that is read, after those of a paragraph whose end was deleted."""
    after: list[model.Block]
    """What stands after the paragraph: pictures, text boxes, notes."""
    is_bold: bool = True
    """Whether all words of the paragraph are in bold letters."""


class _Styles:
    """The document's styles, by their ids, with what they take over from styles that they are based on."""

    def __init__(self, root: Element) -> None:
        """``root``: of the part ``styles``."""
        self._styles = {style.get("styleId", ""): style for style in root.findall("style")}
        usual = {style.get("type"): name for name, style in self._styles.items() if style.get("default")}
        self.default = usual.get("paragraph", "")
        """Style of paragraphs that name none."""
        self.lists = {name: ooxml.value(style, *_NUM_ID) for name, style in self._styles.items()}
        """Id of the list of each style, "" for none."""
        self._properties: dict[str, dict[str, str]] = {}

    def chain(self, name: str) -> Iterator[tuple[str, Element]]:
        """Yield a style and those that it is based on."""
        seen = set[str]()
        while name in self._styles and name not in seen:
            seen.add(name)
            yield name, self._styles[name]
            name = ooxml.value(self._styles[name], "basedOn")

    def properties(self, name: str) -> dict[str, str]:
        """Return the properties that a style gives runs. Its own take precedence over those of the styles
        that it is based on."""
        if name not in self._properties:
            merged: dict[str, str] = {}
            for _, style in self.chain(name):
                merged = _properties(style.find("rPr")) | merged
            self._properties[name] = merged
        return self._properties[name]

    def shows_first_row(self, table: Element) -> bool:
        """Return whether a table's style shows the first row in other letters or on a ground, as names are,
        and the table has that switched on."""
        properties = table.find("tblPr")
        look = ooxml.find(properties, "tblLook")
        flags = {} if look is None else look.attrib
        is_on = flags.get("firstRow", "") not in ("", *ooxml.OFF)
        if "firstRow" not in flags:
            is_on = bool(int(flags.get("val", "0"), 16) & _FIRST_ROW)
        parts = (
            part
            for _, style in self.chain(ooxml.value(properties, "tblStyle"))
            for part in style.findall("tblStylePr")
            if part.get("type") == "firstRow"
        )
        return is_on and any(
            _is_on(_properties(part.find("rPr")), "b") or ooxml.find(part, "tcPr", "shd") is not None
            for part in parts
        )

    def level(self, name: str) -> int:
        """Return the level of the headings of a style; 0 for other paragraphs. The nearest style that says a
        level counts; 10 says "none", so it ends the search, and ``% 10`` makes it 0."""
        return next(filter(None, (_level(style) for _, style in self.chain(name))), 0) % 10


def _level(style: Element) -> int:
    """Return a style's own level of headings; 0 if it does not say, 10 if it says that it has none."""
    title, outline = ooxml.value(style, "name"), ooxml.find(style, "pPr", "outlineLvl")
    if heading := _HEADING.fullmatch(title):
        return int(heading[1])
    if outline is not None:
        return ooxml.number(outline) + 1
    return {"title": 1, "normal": 10, "subtitle": 10}.get(title.lower(), 0)


def _properties(rpr: Element | None) -> dict[str, str]:
    """Return the properties of runs that count here, of ``rPr``: {"b": "1", "vertAlign": "superscript"}."""
    return {
        prop.tag: prop.get("val", "1") for prop in (() if rpr is None else rpr) if prop.tag in _PROPERTIES
    }


class _Reader:
    """Reads a document's parts. What is not read is counted in ``_lost``: words by what they are; 0 where
    words cannot be counted.

    Methods take a *style*: a run without text, with the shift, strike, hiding and link of what is around.
    """

    def __init__(self, container: ZipFile) -> None:
        self._container = container
        self._relations = ooxml.Relations(container, _BODY)
        self._parts = {
            kind: ooxml.part(container, self._relations.by_kind.get(kind, ""))
            for kind in ("styles", "numbering", "footnotes", "endnotes", "comments", "settings")
        }
        self._styles = _Styles(self._parts["styles"])
        self._numbering = ooxml.Numbering(self._parts["numbering"], self._styles.lists)
        self._lost: Counter[str] = Counter()
        self._flow = _Flow([], [], [])
        self._paragraph_properties: Mapping[str, str] = {}
        """What the style of the paragraph that is read gives its runs."""
        self._fields: list[_Field] = []
        """Fields that have begun and not ended, the outermost first."""
        self._note_counts: Counter[str] = Counter()
        self._bold: dict[int, model.Paragraph] = {}
        """Paragraphs in bold letters, by their identity."""
        self._titles: dict[int, str] = {}
        """The first heading of each level, without its number."""
        self._formula: model.Run | None = None
        """The last formula: what follows is not a part of its last number."""
        self._in_margin = False
        """Whether a header or footer is read."""
        self._depth = 0

    def page(self) -> model.Page:
        """Return the document. Call it once: it counts notes and lists, and gathers losses."""
        root = ooxml.part(self._container, _BODY)
        blocks = self._inside(root)
        if not self._titles:
            blocks = tuple(self._bold_headings(blocks))
        self._lost["words of comments"] = ooxml.words_of(self._parts["comments"])
        title = model.title_of(self._title(blocks))
        banner, further = self._margins(root, title or "")
        losses = (
            model.Loss(what, words=words)
            for what, words in self._lost.items()
            if what != "words of comments" or words
        )
        losses = (*ooxml.macros(self._container), *losses)
        return model.Page(
            (*(model.Paragraph(model.plain(line)) for line in further), *blocks), title, banner, losses
        )

    def _title(self, blocks: Sequence[model.Block]) -> str | None:
        """Return the document's title: its first heading, if that is above everything or alone of its level;
        else a first line in bold letters, or the title in the file's properties. A section further below
        gives its name to no document."""
        headings = [block for block in blocks if isinstance(block, model.Heading)]
        level = min((heading.level for heading in headings), default=0)
        tops = [heading for heading in headings if heading.level == level]
        is_alone = len(tops) == 1 and (level == 1 or len(headings) > 1)
        if tops and (tops[0] is blocks[0] or is_alone):
            return self._titles.get(level) or model.text_of(tops[0].runs)
        if blocks and self._is_bold_title(blocks[0]):
            return model.text_of(self._bold[id(blocks[0])].runs)
        core = ooxml.part(self._container, "docProps/core.xml").findtext("other_title") or ""
        is_name = " " not in core.strip() or "." in core.strip()[-5:]  # "memo", "Microsoft Word - memo.doc"
        return self._titles.get(1) if is_name else core

    def _bold_headings(self, blocks: Sequence[model.Block]) -> Iterator[model.Block]:
        """Yield the blocks of a document without styles of headings: a short paragraph in bold letters above
        another block that is none is a heading."""
        for block, below in zip_longest(blocks, blocks[1:]):
            is_heading = self._is_bold_title(block) and below is not None and not self._is_bold_title(below)
            yield model.Heading(2, self._bold[id(block)].runs) if is_heading else block

    def _is_bold_title(self, block: model.Block) -> bool:
        text = model.text_of(self._bold[id(block)].runs) if id(block) in self._bold else ""
        is_short = len(text.split()) <= _LONGEST_BOLD_HEADING and "\n" not in text
        return is_short and any(map(str.isalpha, text)) and not text.endswith(_SENTENCE_ENDS)

    # Blocks

    def _inside(self, element: Element, style: model.Run = _PLAIN) -> tuple[model.Block, ...]:
        """Return the blocks in an element, apart from what is around it: the paragraph around it goes on
        afterwards, and fields that begin inside end inside."""
        outer, self._flow = self._flow, _Flow([], [], [])
        properties, fields = self._paragraph_properties, len(self._fields)
        self._walk(element, style)
        self._end_paragraph(None, "")
        blocks, self._flow = ooxml.nested(self._flow.blocks), outer
        self._paragraph_properties = properties
        del self._fields[fields:]
        return blocks

    def _walk(self, element: Element, style: model.Run) -> None:
        """Read the elements in an element. Raises DocumentInvalidError where they are nested too deep."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise DocumentInvalidError(
                f"its elements are nested deeper than {_DEEPEST}. Simplify it in Word."
            )
        for child in element:
            self._take(child, style)
        self._depth -= 1

    def _take(self, element: Element, style: model.Run) -> None:
        """Read an element by its name. Of one that is not named here, what is in it is read."""
        tag = element.tag
        match tag:
            case "r":
                self._run(element, style)
            case "t" | "m_t":
                self._text(element.text or "", style)
            case "p":
                self._paragraph(element, style)
            case "pPr" | "rPr":
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
                self._lost["words deleted in tracked changes"] += ooxml.words_of(element)
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
                self._text(ooxml.formula(element), style)
                self._formula = self._flow.runs[-1] if self._flow.runs else None
            case "mc_AlternateContent":  # the first choice; others say the same for older programs
                self._walk(next(iter(element), element), style)
            case "txbxContent":
                self._flow.after += self._inside(element, model.Run("", is_hidden=style.is_hidden))
            case "drawing" | "pict" | "object":
                self._drawing(element)
                self._walk(element, style)
            case "v_textpath":
                self._flow.after.append(
                    model.Paragraph(model.plain(model.one_line(element.get("string", ""))))
                )
            case "altChunk":
                self._chunk(element.get("r_id", ""))
            case "subDoc":
                self._lost["linked documents"] += 0
            case _:
                self._walk(element, style)

    def _paragraph(self, element: Element, style: model.Run) -> None:
        """Read a paragraph, and end it, unless the next one is on the same line."""
        properties = element.find("pPr")
        name = ooxml.value(properties, "pStyle", default=self._styles.default)
        outer, self._paragraph_properties = self._paragraph_properties, self._styles.properties(name)
        self._walk(element, style)
        self._paragraph_properties = outer
        while self._fields and not self._fields[-1].in_result:  # an instruction ends with its paragraph
            self._fields.pop()
        if not _goes_on(properties):
            self._end_paragraph(properties, name)

    def _end_paragraph(self, properties: Element | None, name: str) -> None:
        """Add the runs as a block: a heading, an item of a list or a paragraph. ``properties``: its ``pPr``.
        ``name``: its style. Without both it is what stands outside of paragraphs."""
        flow = self._flow
        runs, after = model.trimmed(_on_one_line(flow.runs)), tuple(flow.after)
        flow.runs, flow.after, is_bold = [], [], flow.is_bold
        flow.is_bold = True
        outline = ooxml.find(properties, "outlineLvl")
        level = self._styles.level(name) if outline is None else (ooxml.number(outline) + 1) % 10
        marker, is_ordered, place = self._marker(properties, name)
        blocks = (*((model.Paragraph(runs),) if runs else ()), *after)
        if level and runs:
            numbered = model.plain(f"{marker} ") if is_ordered else ()
            flow.blocks += [model.Heading(min(level, 6), (*numbered, *runs)), *after]
            self._titles.setdefault(level, model.text_of(runs))
        elif marker and blocks:
            flow.blocks.append(ooxml.Point(place, is_ordered, model.Item(marker, blocks)))
        else:
            if is_bold and len(blocks) == 1 and isinstance(paragraph := blocks[0], model.Paragraph):
                self._bold[id(paragraph)] = paragraph
            flow.blocks += blocks

    def _marker(self, properties: Element | None, name: str) -> tuple[str, bool, int]:
        """Count a paragraph of a list. Return what Word shows before it ("" for one of no list), whether that
        is a number, and the level of the list. The list is the paragraph's own, else its style's."""
        list_id = ooxml.value(properties, "numPr", "numId")
        place = ooxml.number(ooxml.find(properties, "numPr", "ilvl"))
        for style_id, style in () if list_id else self._styles.chain(name):
            if list_id := ooxml.value(style, *_NUM_ID):
                default = ooxml.number(ooxml.find(style, "pPr", "numPr", "ilvl"), place)
                place = self._numbering.level_of_style(list_id, style_id, default)
                break
        return (*self._numbering.next(list_id, place), place)

    # Runs

    def _run(self, element: Element, style: model.Run) -> None:
        """Read a run. One that refers to a note by a mark of its own ("*") is that mark and the note."""
        properties = element.find("rPr")
        fonts = ooxml.find(properties, "rFonts")
        merged, font = self._merged(properties), "" if fonts is None else fonts.get("ascii", "")
        styled = _styled(merged, style)
        if not _is_on(merged, "b") and any((text.text or "").strip() for text in element.iter("t")):
            self._flow.is_bold = False
        for child in element:
            if child.tag in _NOTES and child.get("customMarkFollows", "0") not in ooxml.OFF:
                mark = "".join(text.text or "" for text in element.iter("t"))
                self._note(child, _NOTES[child.tag], mark)
                break
            if child.tag == "t":
                self._text(self._symbols(child.text or "", font), styled)
            else:
                self._take(child, styled)

    def _merged(self, properties: Element | None) -> Mapping[str, str]:
        """Return the properties of a run: its paragraph's, its style's and its own."""
        of_style = self._styles.properties(ooxml.value(properties, "rStyle"))
        return {**self._paragraph_properties, **of_style, **_properties(properties)}

    def _symbols(self, text: str, font: str) -> str:
        """Return a text as its font shows it; note a loss for a symbol that is not known."""
        signs = symbols(text, font)
        if UNKNOWN_SYMBOL in signs:
            self._lost["symbols of a font that is not known"] += 0  # a loss without a number of words
        return signs

    def _text(self, text: str, style: model.Run) -> None:
        """Add a text to the paragraph. Left out are instructions of fields, and in a header or footer results
        of fields that differ on each page. In the result of a HYPERLINK the text links."""
        if not text:
            return
        link = style.link
        for field in reversed(self._fields):
            kind, address, place = field.parts()
            if not field.in_result or (self._in_margin and kind in _OF_EACH_PAGE):
                return
            field.has_result = True
            if kind == "HYPERLINK":
                link = f"{address}#{place}" if place else address
        runs = self._flow.runs
        if runs and runs[-1] is self._formula and runs[-1].text[-1:].isalnum() and text[0].isalnum():
            text = f" {text}"
        runs.append(replace(style, text=text, link=link))

    # Fields and controls

    def _field(self, element: Element, style: model.Run) -> None:
        """Begin a field, go on to its result, or end it."""
        match element.get("fldCharType"):
            case "begin":
                self._fields.append(_Field(form=element.find("ffData")))
            case "separate" if self._fields:
                self._fields[-1].in_result = True
            case "end" if self._fields:
                self._end_field(style)
            case _:
                pass

    def _end_field(self, style: model.Run) -> None:
        """End the last field: show a check box or the choice of a list; note a loss for a missing result."""
        field = self._fields.pop()
        kind, form = field.parts()[0], field.form
        if not all(around.in_result for around in self._fields):
            return  # it is a part of an instruction
        if self._in_margin and kind in _OF_EACH_PAGE:
            self._text(PAGE_FIELD, style)
        elif kind == "FORMCHECKBOX" and form is not None:
            states = form.find("checkBox/checked"), form.find("checkBox/default")
            self._text(_BOXES[ooxml.is_on(states[1] if states[0] is None else states[0])], style)
        elif kind == "FORMDROPDOWN" and form is not None:
            entries = [entry.get("val", "") for entry in form.iter("listEntry")]
            chosen = ooxml.number(form.find("ddList/result"), ooxml.number(form.find("ddList/default")))
            self._text(entries[chosen] if 0 <= chosen < len(entries) else "", style)
        elif not field.has_result and kind and kind not in _UNSHOWN:
            self._lost["fields without a stored value"] += 0

    def _control(self, element: Element, style: model.Run) -> None:
        """Read a content control: a check box in a line as its sign, any other one as what is in it."""
        box = element.find("sdtPr/w14_checkbox")
        if box is None or element.find("sdtContent/p") is not None:
            self._walk(element, style)
        else:
            state = box.find("w14_checked")
            is_checked = state is not None and state.get("w14_val", "1") not in ooxml.OFF
            self._text(_BOXES[is_checked], style)

    # Notes, pictures and inserted parts

    def _note(self, reference: Element, kind: str, mark: str) -> None:
        """Add the mark of a note to the paragraph, and the note after it. ``kind``: "footnote" or "endnote".
        ``mark``: its own; "": the next number of its kind."""
        if not mark:
            chosen = ooxml.find(self._parts["settings"], f"{kind}Pr")
            usual = "decimal" if kind == "footnote" else "lowerRoman"
            count = self._note_counts[kind] + ooxml.number(ooxml.find(chosen, "numStart"), 1)
            self._note_counts[kind] += 1
            mark = ooxml.shown(count, ooxml.value(chosen, "numFmt", default=usual))
        self._flow.runs.append(model.Run(mark, model.Shift.RAISED, is_note_mark=True))
        for note in self._parts[f"{kind}s"]:
            if note.get("id") == reference.get("id"):
                blocks = self._inside_part(note, self._relations.by_kind.get(f"{kind}s", ""))
                self._flow.after.append(model.Note(mark, blocks))

    def _inside_part(self, element: Element, name: str) -> tuple[model.Block, ...]:
        """Return the blocks in an element of another part: ids in it are of that part's relations."""
        outer, self._relations = self._relations, ooxml.Relations(self._container, name)
        fields, self._fields = self._fields, []
        blocks = self._inside(element)
        self._relations, self._fields = outer, fields
        return blocks

    def _drawing(self, element: Element) -> None:
        """Add a picture, chart or diagram with the text that its author gave it, and a diagram's texts; in a
        header or footer only the latter. For the fields around it, it is a result."""
        for field in self._fields:
            field.has_result = True
        kinds = {_DRAWN[inner.tag] for inner in element.iter() if inner.tag in _DRAWN}
        kinds |= {"arrow"} if ooxml.is_arrow(element) else set()
        described = (
            inner.get(name, "")
            for inner in element.iter()
            for name in ("descr", "title", "alt")
            if inner.tag in ("wp_docPr", "v_shape", "v_rect")
        )
        words = ooxml.caption(next(filter(None, described), ""))
        if (kinds or words) and not self._in_margin:
            kind = next((kind for kind in ("chart", "diagram", "arrow") if kind in kinds), "picture")
            self._flow.after.append(model.Figure(words, kind=kind))
        for inner in element.iter("dgm_relIds"):
            data = ooxml.part(self._container, self._relations.targets.get(inner.get("r_dm", ""), ""))
            self._flow.after += [model.Paragraph(model.plain(text)) for text in ooxml.diagram_texts(data)]

    def _chunk(self, relation: str) -> None:
        """Add a file that is inserted as a part: a web page or a text; any other one is a loss."""
        name = self._relations.targets.get(relation, "")
        suffix = name.rpartition(".")[2].lower()
        raw = self._container.read(name) if name in self._container.namelist() else b""
        if suffix in ("htm", "html", "xhtml"):
            self._flow.blocks += read_html(decoded_page(raw), is_whole=False).blocks
        elif suffix == "txt":
            self._flow.blocks += text_blocks(decoded(raw))
        else:
            self._lost[f"inserted {suffix or 'unknown'} files"] += 0

    # Tables

    def _table(self, element: Element, style: model.Run) -> None:
        """Add a table without its deleted rows. Its first rows are names of columns if they are declared."""
        rows: list[list[_Draft]] = []
        above: dict[int, _Draft] = {}
        """Cells that a cell below may go on with, by their column."""
        declared = 0
        for row in _wrapped_in(element, "tr"):
            properties = row.find("trPr")
            if ooxml.find(properties, "del") is not None:
                self._lost["words deleted in tracked changes"] += ooxml.words_of(row)
                continue
            is_hidden = style.is_hidden or ooxml.is_on(ooxml.find(properties, "hidden"))
            # Rows of names count only while all rows above are such rows.
            declared += declared == len(rows) and ooxml.is_on(ooxml.find(properties, "tblHeader"))
            rows.append(self._row(row, above, replace(style, is_hidden=is_hidden)))
        cells = [[self._cell(draft) for draft in row] for row in rows]
        if cells and self._styles.shows_first_row(element) and not _is_pair(cells[0]):
            cells[0] = [replace(cell, is_name=bool(cell.blocks)) for cell in cells[0]]
        self._flow.blocks += table_blocks(cells, header_rows=declared)

    def _cell(self, draft: _Draft) -> model.Cell:
        is_name = bool(draft.blocks) and all(id(block) in self._bold for block in draft.blocks)
        return model.Cell(draft.blocks, draft.rows, draft.columns, is_name)

    def _row(self, row: Element, above: dict[int, _Draft], style: model.Run) -> list[_Draft]:
        """Return the cells that begin in a row, and update ``above``. A cell that is merged with the one
        beside or above adds its blocks to that one."""
        column = min(ooxml.number(ooxml.find(row, "trPr", "gridBefore")), _WIDEST_SPAN)
        drafts = [_Draft((), columns=column)] if column > 0 else []
        for cell in _wrapped_in(row, "tc"):
            properties = cell.find("tcPr")
            span = max(1, min(ooxml.number(ooxml.find(properties, "gridSpan"), 1), _WIDEST_SPAN))
            blocks, upper = self._inside(cell, style), above.get(column)
            if _goes_on_in(properties, "hMerge") and drafts:
                drafts[-1].columns += span
                drafts[-1].blocks += blocks
            elif _goes_on_in(properties, "vMerge") and upper is not None and upper.columns == span:
                upper.rows += 1
                upper.blocks += blocks
            else:
                drafts.append(_Draft(blocks, columns=span))
                above.pop(column, None)
                if ooxml.find(properties, "vMerge") is not None:
                    above[column] = drafts[-1]
            column += span
        return drafts

    # Headers and footers

    def _margins(self, root: Element, titles: str) -> tuple[str, list[str]]:
        """Return the banner: what headers, footers and watermarks say beyond a page's number and the titles;
        and what does not fit into it."""
        has_even = ooxml.is_on(ooxml.find(self._parts["settings"], "evenAndOddHeaders"))
        lines: dict[str, None] = {}
        self._in_margin = True
        for section in root.iter("sectPr"):
            is_shown = {"default": True, "first": ooxml.is_on(section.find("titlePg")), "even": has_even}
            for reference in (*section.iter("headerReference"), *section.iter("footerReference")):
                name = self._relations.targets.get(reference.get("r_id", ""), "")
                if is_shown.get(reference.get("type", "")):
                    margin = ooxml.part(self._container, name)
                    lines |= dict.fromkeys(_margin_lines(self._inside_part(margin, name)))
        self._in_margin = False
        known = set(titles.casefold().split())
        return model.banner_of(line for line in lines if set(line.casefold().split()) - known)


_DRAWN = {"pic_pic": "picture", "v_imagedata": "picture", "c_chart": "chart", "dgm_relIds": "diagram"}
"""Element in a drawing = what it shows."""


def _is_pair(row: Sequence[model.Cell]) -> bool:
    """Return whether a row is a name with a value: "Monday | 9 to 12". A style shows the first one of a list
    of them as it shows names of columns, so it says nothing."""
    texts = [model.text_of(run for runs in model.all_runs(cell.blocks) for run in runs) for cell in row]
    return len(row) == 2 and any(map(str.isdigit, texts[1]))


def _margin_lines(blocks: Iterable[model.Block]) -> Iterator[str]:
    """Yield what a header or footer says, without the numbers of pages."""
    for runs in model.all_runs(blocks):
        text = _PAGE_NUMBER.sub("", "".join(run.text for run in runs if run.is_in_force))
        if any(map(str.isalnum, text)):
            yield model.one_line(text).strip(_BETWEEN_PARTS)


def _goes_on(properties: Element | None) -> bool:
    """Return whether the next paragraph is on the same line: its end was deleted, or it is an initial."""
    frame = ooxml.find(properties, "framePr")
    ends = (ooxml.find(properties, "rPr", tag) for tag in ("del", "moveFrom"))
    is_initial = frame is not None and frame.get("dropCap", "none") != "none"
    return is_initial or any(end is not None for end in ends)


def _goes_on_in(properties: Element | None, merge: str) -> bool:
    """Return whether a cell is a part of the one above (``merge`` is "vMerge") or beside ("hMerge")."""
    element = ooxml.find(properties, merge)
    return element is not None and element.get("val", "continue") == "continue"


def _on_one_line(runs: Sequence[model.Run]) -> Iterable[model.Run]:
    """Return runs that are all raised or lowered alike as ones that are not: nothing is beside them."""
    shifts = {run.shift for run in runs if run.text.strip()}
    is_alone = len(shifts) == 1 and not any(run.is_note_mark for run in runs)
    return (replace(run, shift=model.Shift.NONE) for run in runs) if is_alone else runs


def _wrapped_in(element: Element, tag: str) -> Iterator[Element]:
    """Yield rows of a table or cells of a row, also those that are wrapped in controls and changes."""
    for child in element:
        if child.tag == tag:
            yield child
        elif child.tag in _WRAPPERS:
            yield from _wrapped_in(child, tag)


def _styled(merged: Mapping[str, str], style: model.Run) -> model.Run:
    """Return a run's style within that of what is around it."""
    if not merged:
        return style
    position = merged.get("position", "0").removesuffix("pt")
    raised = float(position) if re.fullmatch(r"-?\d{1,4}(\.\d+)?", position) else 0
    raised = {"superscript": 1, "subscript": -1}.get(merged.get("vertAlign", ""), raised)
    return replace(
        style,
        shift=model.Shift.RAISED if raised > 0 else model.Shift.LOWERED if raised < 0 else model.Shift.NONE,
        is_struck=style.is_struck or _is_on(merged, "strike") or _is_on(merged, "dstrike"),
        is_hidden=style.is_hidden or _is_on(merged, "vanish"),
    )


def _is_on(properties: Mapping[str, str], name: str) -> bool:
    """Return whether a property of runs is there and on."""
    return properties.get(name, "0") not in ooxml.OFF
