"""Reads presentations into the page model by python-pptx: slide by slide, in reading order.

    Heading 2   "Slide 3: Returns"
    List        "• Unopened packs", "• With the receipt"       a text frame of several paragraphs
    Note        what the speaker wrote

Tags without braces ("a_p", "a_r", "a_pPr") are the short names of ``ooxml.tree``: a paragraph of a drawing, a
run, a paragraph's properties. Names in braces are python-pptx's own elements.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Any
from xml.etree.ElementTree import Element

from assistant.documents import page as model
from assistant.documents.symbols import symbols
from assistant.documents.tables import table_blocks
from assistant.options.office.formats import ooxml

_ALTERNATES = "{http://schemas.openxmlformats.org/markup-compatibility/2006}AlternateContent"
"""The same content for programs of several ages, one of which is shown."""
_INK = "{*}contentPart"
"""A drawing by hand, which python-pptx does not know; the alternative is its picture."""
_UNNAMED = "PowerPoint Presentation"
"""The title of a file to which nobody gave one."""
_DESCRIBED = "{http://schemas.openxmlformats.org/presentationml/2006/main}cNvPr"
"""Element of a shape with its alternative text (``descr``)."""
_AUTO_NUMBER = re.compile(r"(arabic|alphaLc|alphaUc|romanLc|romanUc)(Period|ParenR|ParenBoth|Plain)")
"""Kind of a numbered list: "alphaLcParenR" is shown as "a)"."""
# The second part of a kind = the marker.
_SIGNS = {"Period": "{}.", "ParenR": "{})", "ParenBoth": "({})", "Plain": "{}"}

_NUMBER = re.compile(r"\D{0,3}\d")
_SLACK = 50_000
"""In EMU, of which a millimeter has 36,000: boxes side by side begin at about the same height."""


def convert_pptx(raw: bytes) -> model.Page:
    """Return a presentation: for each slide its title, texts and tables in reading order, and its notes.

    Raises DocumentInvalidError.
    """
    from pptx import Presentation

    with ooxml.open_container(raw, part="ppt/presentation.xml") as container:
        losses = [*ooxml.macros(container)]
        if any("/comments/" in name for name in container.namelist()):
            losses.append(model.Loss("comments"))
    with ooxml.whole_file("PowerPoint"):
        presentation = Presentation(io.BytesIO(raw))
        blocks = list[model.Block]()
        running = dict[str, None]()  # a set in order: texts of footers and of masters
        for number, slide in enumerate(presentation.slides, start=1):
            if slide.element.get("show") == "0":  # pyright: ignore[reportUnknownMemberType]
                words = ooxml.words_of(_tree(slide))
                losses.append(model.Loss("hidden slides", f"slide {number}", words, count=1))
            else:
                blocks += _Slide(slide, number, running).blocks()
    of_file = str(presentation.core_properties.title).replace(_UNNAMED, "")
    title = model.title_of(next(map(_title, presentation.slides), "")) or model.title_of(of_file)
    banner, further = model.banner_of(running)
    return model.Page(
        (*(model.Paragraph(model.plain(text)) for text in further), *blocks), title, banner, tuple(losses)
    )


class _Slide:
    """A slide. ``blocks`` adds to ``running`` the texts that other slides repeat: of its footer, and of its
    layout and master."""

    def __init__(self, slide: Any, number: int, running: dict[str, None]) -> None:
        self._slide, self._place, self._running = slide, model.Place("slide", number), running
        self._links = {
            name: relation.target_ref for name, relation in slide.part.rels.items() if relation.is_external
        }

    def blocks(self) -> Iterator[model.Block]:
        """Yield the heading with the slide's number and title, its shapes, then its notes."""
        # In place of alternatives put what the first one that python-pptx knows has in it.
        for alternates in list(self._slide.element.iter(_ALTERNATES)):
            parent = alternates.getparent()
            at = parent.index(alternates)
            known = (option for option in alternates if option.find(_INK) is None)
            parent[at : at + 1] = list(next(known, ()))
        placeholder = self._slide.shapes.title
        lines = () if placeholder is None else _tree(placeholder).iter("a_p")
        title = model.trimmed(run for line in lines for run in (*self._runs(line), model.Run(" ")))
        number = f"Slide {self._place.number}"
        yield model.Heading(
            2, (model.Run(f"{number}: "), *title) if title else model.plain(number), place=self._place
        )
        others = (
            shape
            for shape in _in_reading_order(self._slide.shapes)
            if placeholder is None or shape.shape_id != placeholder.shape_id
        )
        for _, group in groupby(others, key=_lines_beside):
            boxes = [*group]
            yield from self._rows_of(boxes) or chain.from_iterable(map(self._shape, boxes))
        for behind in (self._slide.slide_layout, self._slide.slide_layout.slide_master):
            texts = (shape for shape in behind.shapes if not shape.is_placeholder and shape.has_text_frame)
            self._running |= {
                model.one_line(shape.text_frame.text): None
                for shape in texts
                if shape.text_frame.text.strip()
            }
        frame = self._slide.notes_slide.notes_text_frame if self._slide.has_notes_slide else None
        if frame is not None and (notes := self._texts(frame)):
            yield model.Note("", notes)

    def _rows_of(self, boxes: Sequence[Any]) -> Iterable[model.Block]:
        """Return the lines of text boxes side by side as rows, where one has names and all others have
        numbers: "Sibling", "Company" beside "8 %", "12 %, with a badge". Return none for other boxes."""
        columns = [self._texts(box.text_frame, is_list=False) for box in boxes] if len(boxes) > 1 else []
        texts = ([*map(model.text_of, model.all_runs(column))] for column in columns)
        are_numbers = [2 * sum(map(_is_number, column)) > len(column) for column in texts]
        if are_numbers.count(False) != 1 or len({*map(len, columns)}) > 1:
            return ()
        return table_blocks([model.Cell((block,)) for block in row] for row in zip(*columns, strict=True))

    def _shape(self, shape: Any) -> Iterable[model.Block]:
        """Return what a shape shows: a table, a chart, a text, a diagram's texts, else a picture with its
        alternative text. A line without such a text is nothing."""
        described = next(iter(shape.element.iter(_DESCRIBED)))
        words = ooxml.caption(described.get("descr") or "")
        if shape.has_table:
            rows = [
                [self._cell(cell) for cell in row.cells if not cell.is_spanned] for row in shape.table.rows
            ]
            return table_blocks(rows, names_expected=bool(shape.table.first_row))
        if shape.has_chart:
            return [model.Figure(words, kind="chart")]
        if _is_bare(shape) and ooxml.is_arrow(_tree(shape)):
            return [model.Figure((), kind="arrow")]
        if shape.has_text_frame:
            return self._frame(shape)
        relations = list(_tree(shape).iter("dgm_relIds"))
        if relations:
            data = ooxml.tree(self._slide.part.related_part(relations[0].get("r_dm")).blob)
            return [model.Paragraph(model.plain(text)) for text in ooxml.diagram_texts(data)]
        is_line = shape.element.tag.endswith("}cxnSp")
        return [] if is_line and not words else [model.Figure(words)]

    def _frame(self, shape: Any) -> Iterable[model.Block]:
        """Return the text of a shape; nothing for a footer, date or number of the slide. A footer that is the
        same on each slide (no field, such as today's date) goes to ``running``."""
        from pptx.enum.shapes import PP_PLACEHOLDER as KIND

        kind = shape.placeholder_format.type if shape.is_placeholder else None
        if kind in (KIND.FOOTER, KIND.DATE, KIND.HEADER):
            is_fixed = next(_tree(shape.text_frame).iter("a_fld"), None) is None
            text = model.one_line(shape.text_frame.text)
            self._running |= {text: None} if text and is_fixed else {}
        return (
            ()
            if kind in (KIND.FOOTER, KIND.DATE, KIND.HEADER, KIND.SLIDE_NUMBER)
            else self._texts(shape.text_frame)
        )

    def _cell(self, cell: Any) -> model.Cell:
        is_merged = cell.is_merge_origin
        rows, columns = (cell.span_height, cell.span_width) if is_merged else (1, 1)
        runs = [run for run in _tree(cell.text_frame).iter("a_r") if (run.findtext("a_t") or "").strip()]
        is_name = bool(runs) and all(run.find("a_rPr[@b='1']") is not None for run in runs)
        return model.Cell(self._texts(cell.text_frame, is_list=False), rows, columns, is_name)

    def _texts(self, frame: Any, *, is_list: bool = True) -> tuple[model.Block, ...]:
        """Return the paragraphs of a text frame. Several are a list on most slides; in a cell (``is_list``
        false) only numbered ones are."""
        counts: dict[int, tuple[str, int]] = {}
        points = [self._point(paragraph, counts) for paragraph in _tree(frame).iter("a_p")]
        points = [point for point in points if point.item.blocks]
        if (is_list and len(points) > 1) or any(point.is_ordered for point in points):
            return ooxml.nested(points)
        return tuple(block for point in points for block in point.item.blocks)

    def _point(self, paragraph: Element, counts: dict[int, tuple[str, int]]) -> ooxml.Point:
        """Return a paragraph as an item, and count it. ``counts``: by level, the kind and the number of the
        last item. An item ends the counts of deeper levels; one without a number also that of its own."""
        properties = paragraph.find("a_pPr")
        level = min(int("0" if properties is None else properties.get("lvl", "0")), 8)
        automatic = None if properties is None else properties.find("a_buAutoNum")
        runs = model.trimmed(self._runs(paragraph))
        blocks = (model.Paragraph(runs),) if runs else ()
        kind = "" if automatic is None else automatic.get("type", "")
        for ended in [ended for ended in counts if ended > level or (ended == level and not kind)]:
            del counts[ended]
        if automatic is None or not runs:
            return ooxml.Point(level, False, model.Item("\u2022", blocks))
        last_kind, last = counts.get(level, ("", 0))
        number = last + 1 if last_kind == kind else int(automatic.get("startAt", "1"))
        counts[level] = kind, number
        form, sign = match.groups() if (match := _AUTO_NUMBER.match(kind)) else ("arabic", "Period")
        marker = _SIGNS[sign].format(ooxml.shown(number, form))
        return ooxml.Point(level, True, model.Item(marker, blocks))

    def _runs(self, paragraph: Element) -> Iterator[model.Run]:
        """Yield the runs of a paragraph: texts and fields, line breaks, formulas."""
        for child in paragraph:
            match child.tag:
                case "a_r" | "a_fld":
                    yield self._run(child)
                case "a_br":
                    yield model.Run("\n")
                case "m_oMath":
                    yield model.Run(ooxml.formula(child))
                case _:
                    yield from self._runs(child)

    def _run(self, run: Element) -> model.Run:
        """Return a run with its shift, strike and link. Of ``baseline`` only the sign counts."""
        properties = run.find("a_rPr")
        text = run.findtext("a_t") or ""
        if properties is None:
            return model.Run(text)
        raised, font = int(properties.get("baseline", "0").rstrip("%") or 0), properties.find("a_latin")
        click = properties.find("a_hlinkClick")
        return model.Run(
            symbols(text, "" if font is None else font.get("typeface", "")),
            model.Shift.RAISED if raised > 0 else model.Shift.LOWERED if raised < 0 else model.Shift.NONE,
            is_struck=properties.get("strike", "noStrike") != "noStrike",
            link="" if click is None else self._links.get(click.get("r_id", ""), ""),
        )


def _tree(proxy: Any) -> Element:
    """Return a copy of what python-pptx has read (a shape, a slide, a text frame) under the names of
    ``ooxml.tree``."""
    return ooxml.tree(proxy._element.xml.encode())


def _title(slide: Any) -> str:
    """Return the text of a slide's title; "" without one."""
    shape = slide.shapes.title
    return model.one_line(shape.text_frame.text) if shape is not None else ""


def _in_reading_order(shapes: Iterable[Any]) -> Iterator[Any]:
    """Yield shapes in reading order, those of a group together; at the end those that show no text."""
    shapes = [*shapes]
    bare = [shape for shape in shapes if _is_bare(shape)]
    for shape in (*_ordered([shape for shape in shapes if shape not in bare]), *bare):
        if hasattr(shape, "shapes"):
            yield from _in_reading_order(shape.shapes)
        else:
            yield shape


def _is_bare(shape: Any) -> bool:
    """Return whether a shape is an empty text, or a picture or line without an alternative text."""
    is_drawn = shape.element.tag.endswith(("}pic", "}cxnSp"))
    is_described = any(element.get("descr") for element in shape.element.iter(_DESCRIBED))
    return (is_drawn and not is_described) or (shape.has_text_frame and not shape.text_frame.text.strip())


def _ordered(shapes: Sequence[Any]) -> Iterator[Any]:
    """Yield shapes from top to bottom. Where columns are side by side and each has lines or a table, yield
    the columns one after the other, else what is beside each other from left to right."""
    for is_split, group in groupby(_apart(shapes, "top", "height"), key=lambda band: len(_beside(band)) > 1):
        bands = [*group]
        columns = _beside([*chain(*bands)])
        are_columns = is_split and len(columns) > 1 and all(any(map(_has_lines, each)) for each in columns)
        for part in columns if are_columns else chain(*map(_beside, bands)):
            if len(part) < len(shapes):
                yield from _ordered(part)
            else:
                yield from sorted(part, key=lambda each: (each.top or 0, each.left or 0))


def _beside(shapes: Sequence[Any]) -> list[list[Any]]:
    return _apart(shapes, "left", "width")


def _apart(shapes: Sequence[Any], start: str, size: str) -> list[list[Any]]:
    """Return shapes in bands that lie one after the other. They may overlap by a quarter of the first one:
    boxes are larger than their texts."""
    bands, reach = list[list[Any]](), 0.0
    for shape in sorted(shapes, key=lambda each: getattr(each, start) or 0):
        begin, extent = getattr(shape, start) or 0, getattr(shape, size) or 0
        if not bands or begin >= reach:
            bands.append([])
        bands[-1].append(shape)
        reach = max(reach, begin + 0.75 * extent)
    return bands


def _has_lines(shape: Any) -> bool:
    return not shape.has_text_frame or len(_lines(shape)) > 1


def _lines(shape: Any) -> list[str]:
    return [line for line in shape.text_frame.text.split("\n") if line.strip()]


def _lines_beside(shape: Any) -> object:
    """Return what text boxes side by side have in common whose lines may be the cells of rows; a value of its
    own for any other shape."""
    lines = len(_lines(shape)) if shape.has_text_frame else 0
    return (
        (lines, *(round((side or 0) / _SLACK) for side in (shape.top, shape.height)))
        if lines > 1
        else shape.shape_id
    )


def _is_number(text: str) -> bool:
    """Return whether a line begins with a number or an amount: "8 %, with a badge", "R$ 40"."""
    return _NUMBER.match(text) is not None
