"""Reads presentations into the page model by python-pptx: slide by slide, in reading order."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from typing import Any
from xml.etree.ElementTree import Element

from assistant.documents import page as model
from assistant.documents.parsing.render import table_blocks
from assistant.options.office.formats import ooxml

_ALTERNATES = "{http://schemas.openxmlformats.org/markup-compatibility/2006}AlternateContent"
_INK = "{*}contentPart"
"""A drawing by hand, which python-pptx does not know; the alternative is its picture."""
_UNNAMED = "PowerPoint Presentation"
"""The title of a file to which nobody gave one."""
_DESCRIBED = "{http://schemas.openxmlformats.org/presentationml/2006/main}cNvPr"
_AUTO_NUMBER = re.compile(r"(arabic|alphaLc|alphaUc|romanLc|romanUc)(Period|ParenR|ParenBoth|Plain)")
_FORMATS = {
    "alphaLc": "lowerLetter",
    "alphaUc": "upperLetter",
    "romanLc": "lowerRoman",
    "romanUc": "upperRoman",
}
_SIGNS = {"Period": "{}.", "ParenR": "{})", "ParenBoth": "({})", "Plain": "{}"}


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
        running = dict[str, None]()
        for number, slide in enumerate(presentation.slides, start=1):
            if slide.element.get("show") == "0":  # pyright: ignore[reportUnknownMemberType]
                losses.append(model.Loss("hidden slides", f"slide {number}", ooxml.words_of(_tree(slide))))
            else:
                blocks += _Slide(slide, number, running).blocks()
    named = str(presentation.core_properties.title).replace(_UNNAMED, "")
    title = model.title_of(next(map(_title, presentation.slides), "")) or model.title_of(named)
    banner, further = model.banner_of(running)
    return model.Page(
        (*(model.Paragraph(model.plain(text)) for text in further), *blocks), title, banner, tuple(losses)
    )


class _Slide:
    """A slide, whose texts that other slides repeat go to ``running``."""

    def __init__(self, slide: Any, number: int, running: dict[str, None]) -> None:
        self._slide, self._place, self._running = slide, model.Place("slide", number), running
        self._links = {
            name: relation.target_ref for name, relation in slide.part.rels.items() if relation.is_external
        }

    def blocks(self) -> Iterator[model.Block]:
        for alternates in list(self._slide.element.iter(_ALTERNATES)):
            around = alternates.getparent()
            at = around.index(alternates)
            others = (option for option in alternates if option.find(_INK) is None)
            around[at : at + 1] = list(next(others, ()))
        placeholder = self._slide.shapes.title
        lines = () if placeholder is None else _tree(placeholder).iter("a_p")
        title = model.trimmed(run for line in lines for run in (*self._runs(line), model.Run(" ")))
        number = f"Slide {self._place.number}"
        yield model.Heading(
            2, (model.Run(f"{number}: "), *title) if title else model.plain(number), place=self._place
        )
        for shape in _in_reading_order(self._slide.shapes):
            if placeholder is None or shape.shape_id != placeholder.shape_id:
                yield from self._shape(shape)
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

    def _shape(self, shape: Any) -> Iterable[model.Block]:
        described = next(iter(shape.element.iter(_DESCRIBED)))
        words = ooxml.caption(described.get("descr") or "")
        if shape.has_table:
            rows = [
                [self._cell(cell) for cell in row.cells if not cell.is_spanned] for row in shape.table.rows
            ]
            return table_blocks(rows, header_rows=int(shape.table.first_row))
        if shape.has_chart:
            return [model.Figure(words, kind="chart")]
        if shape.has_text_frame:
            return self._frame(shape)
        relations = list(_tree(shape).iter("dgm_relIds"))
        if relations:
            data = ooxml.tree(self._slide.part.related_part(relations[0].get("r_dm")).blob)
            return [model.Paragraph(model.plain(text)) for text in ooxml.diagram_texts(data)]
        is_line = shape.element.tag.endswith("}cxnSp")
        return [] if is_line and not words else [model.Figure(words)]

    def _frame(self, shape: Any) -> Iterable[model.Block]:
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
        is_origin = cell.is_merge_origin
        rows, columns = (cell.span_height, cell.span_width) if is_origin else (1, 1)
        return model.Cell(self._texts(cell.text_frame, is_list=False), rows, columns)

    def _texts(self, frame: Any, *, is_list: bool = True) -> tuple[model.Block, ...]:
        """Return the paragraphs of a text frame; several are a list on most slides."""
        counts: dict[int, tuple[str, int]] = {}
        points = [self._point(paragraph, counts) for paragraph in _tree(frame).iter("a_p")]
        points = [point for point in points if point.item.blocks]
        if (is_list and len(points) > 1) or any(point.is_ordered for point in points):
            return ooxml.nested(points)
        return tuple(block for point in points for block in point.item.blocks)

    def _point(self, paragraph: Element, counts: dict[int, tuple[str, int]]) -> ooxml.Point:
        """Return a paragraph as an item. ``counts``: the kind and the number of the last item of a level."""
        properties = paragraph.find("a_pPr")
        level = min(int("0" if properties is None else properties.get("lvl", "0")), 8)
        automatic = None if properties is None else properties.find("a_buAutoNum")
        runs = model.trimmed(self._runs(paragraph))
        blocks = (model.Paragraph(runs),) if runs else ()
        kind = "" if automatic is None else automatic.get("type", "")
        for other in [other for other in counts if other > level or (other == level and not kind)]:
            del counts[other]
        if automatic is None or not runs:
            return ooxml.Point(level, False, model.Item("\u2022", blocks))
        last_kind, last = counts.get(level, ("", 0))
        number = last + 1 if last_kind == kind else int(automatic.get("startAt", "1"))
        counts[level] = kind, number
        form, sign = found.groups() if (found := _AUTO_NUMBER.match(kind)) else ("arabic", "Period")
        marker = _SIGNS[sign].format(ooxml.shown(number, _FORMATS.get(form, "decimal")))
        return ooxml.Point(level, True, model.Item(marker, blocks))

    def _runs(self, paragraph: Element) -> Iterator[model.Run]:
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
        properties = run.find("a_rPr")
        text = run.findtext("a_t") or ""
        if properties is None:
            return model.Run(text)
        raised, font = int(properties.get("baseline", "0").rstrip("%") or 0), properties.find("a_latin")
        click = properties.find("a_hlinkClick")
        return model.Run(
            ooxml.symbols(text, "" if font is None else font.get("typeface", "")),
            model.Shift.RAISED if raised > 0 else model.Shift.LOWERED if raised < 0 else model.Shift.NONE,
            is_struck=properties.get("strike", "noStrike") != "noStrike",
            link="" if click is None else self._links.get(click.get("r_id", ""), ""),
        )


def _tree(written: Any) -> Element:
    """Return what python-pptx has read under the names of ``ooxml.tree``."""
    return ooxml.tree(written._element.xml.encode())


def _title(slide: Any) -> str:
    shape = slide.shapes.title
    return model.one_line(shape.text_frame.text) if shape is not None else ""


def _in_reading_order(shapes: Iterable[Any]) -> Iterator[Any]:
    """Yield shapes from top to bottom, then left to right; those of a group together."""
    for shape in sorted(shapes, key=lambda shape: (shape.top or 0, shape.left or 0)):
        if hasattr(shape, "shapes"):
            yield from _in_reading_order(shape.shapes)
        else:
            yield shape
