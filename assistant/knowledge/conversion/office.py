"""Converts Word documents by mammoth and presentations by python-pptx."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import IO, TYPE_CHECKING, Any
from xml.parsers.expat import ParserCreate
from zipfile import ZipFile

from turbohtml import Element, parse

from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.conversion.containers import BROKEN, macros, open_container
from assistant.knowledge.conversion.markup import Converted, heading, paragraphs, table, title_of

if TYPE_CHECKING:
    from pptx.presentation import Presentation
    from pptx.slide import Slide

_STYLES = """
p[style-name='Title'] => h1:fresh
p[style-name='Subtitle'] => p:fresh
"""
"""Styles that mammoth does not know. Its own map has headings, lists and notes."""
_SPAN = re.compile(r"\d{1,3}")
_WIDEST_SPAN = 1000


def convert_docx(raw: bytes) -> Converted:
    """Return a Word document with its headings, lists, tables and notes. Raises DocumentInvalidError."""
    import mammoth  # pyright: ignore[reportMissingTypeStubs]
    import mammoth.docx.office_xml as office_xml  # pyright: ignore[reportMissingTypeStubs]

    office_xml.parse_xml = _parse_xml  # pyright: ignore[reportAttributeAccessIssue]
    with open_container(raw, part="word/document.xml") as container:
        notes = [*macros(container), *_media(container, "word/media/")]
    images: Any = mammoth.images.img_element(lambda _: {})  # pyright: ignore
    try:
        result: Any = mammoth.convert_to_html(io.BytesIO(raw), style_map=_STYLES, convert_image=images)  # pyright: ignore
    except BROKEN as error:
        raise _unreadable("Word", error) from None
    page = parse(result.value)
    for element in page.select("table"):
        if element.select_one("table") is None:  # the outer table of two is layout
            element.replace_with(*parse(_regular(element)).select("table"))
    first = page.select_one("h1") or page.select_one("h2")
    body = page.find("body")
    html = body.inner_html if body is not None else ""
    return Converted(title_of(first.text if first is not None else None), html, tuple(notes))


def _parse_xml(file: IO[bytes], namespaces: Iterable[tuple[str, str]]) -> Any:
    """Return mammoth's tree of a part. Its own parser builds a minidom first: 64 documents take 12.3 s of CPU
    time with that, 2.2 s with this."""
    import mammoth.docx.xmlparser as nodes  # pyright: ignore[reportMissingTypeStubs]

    new_element: Any = nodes.XmlElement
    new_text: Any = nodes.XmlText
    prefixes = {uri: prefix for prefix, uri in namespaces}

    @cache
    def name(written: str) -> str:
        uri, _, local = written.rpartition(" ")
        if not uri:
            return local
        return f"{prefixes[uri]}:{local}" if uri in prefixes else f"{{{uri}}}{local}"

    root: Any = new_element("", {}, [])
    around = [root]

    def start(tag: str, attributes: dict[str, str]) -> None:
        element: Any = new_element(name(tag), {name(key): value for key, value in attributes.items()}, [])
        around[-1].children.append(element)
        around.append(element)

    parser = ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: around.pop()
    parser.CharacterDataHandler = lambda text: around[-1].children.append(new_text(text))
    parser.ParseFile(file)
    return root.children[0]


def convert_pptx(raw: bytes) -> Converted:
    """Return a presentation: for each slide its title, texts and tables in reading order, and its notes.

    Raises DocumentInvalidError.
    """
    from pptx import Presentation

    with open_container(raw, part="ppt/presentation.xml") as container:
        notes = list(macros(container))
    try:
        presentation = Presentation(io.BytesIO(raw))
        slides = list(_slides(presentation, notes))
    except BROKEN as error:
        raise _unreadable("PowerPoint", error) from None
    first = next(iter(presentation.slides), None)
    title = title_of(_slide_title(first) if first is not None else None)
    return Converted(title or title_of(presentation.core_properties.title), "".join(slides), tuple(notes))


def _unreadable(program: str, error: Exception) -> DocumentInvalidError:
    problem = f"it is not a whole {program} file ({type(error).__name__})"
    return DocumentInvalidError(f"{problem}. Open it in {program} and save it again.")


def _media(container: ZipFile, folder: str) -> Iterator[str]:
    images = sum(name.startswith(folder) for name in container.namelist())
    if images:
        yield f"pictures whose text was not read: {images}"


# --- tables of Word -----------------------------------------------------------------------------------------
def _regular(element: Element) -> str:
    """Return the table without merged cells: each cell that a merged one covers repeats its text."""
    rows = element.select("tr")
    has_header = bool(rows) and all(cell.tag == "th" for cell in rows[0].select("th, td"))
    grid: list[dict[int, str]] = [{} for _ in rows]
    for number, row in enumerate(rows):
        column = 0
        for cell in row.select("th, td"):
            while column in grid[number]:
                column += 1
            text = " ".join(cell.text.split())
            columns = range(column, column + _span(cell, "colspan"))
            for line in grid[number : number + _span(cell, "rowspan")]:
                line.update(dict.fromkeys(columns, text))
    widest = max((max(line, default=-1) + 1 for line in grid), default=0)
    cells = [[line.get(column, "") for column in range(widest)] for line in grid]
    return table(cells, has_header=has_header or None)


def _span(cell: Element, name: str) -> int:
    value = cell.attr(name) or ""
    return min(max(1, int(value)), _WIDEST_SPAN) if _SPAN.fullmatch(value) else 1


# --- slides -------------------------------------------------------------------------------------------------
def _slides(presentation: Presentation, notes: list[str]) -> Iterator[str]:
    """Yield each slide's HTML, and add what is not read to the notes."""
    for number, slide in enumerate(presentation.slides, start=1):
        if slide.element.get("show") == "0":  # pyright: ignore[reportUnknownMemberType]
            notes.append(f"slide {number} is hidden and was not read")
            continue
        title = _slide_title(slide)
        yield heading(2, f"Slide {number}: {title}" if title else f"Slide {number}", anchor=f"slide-{number}")
        for shape in _in_reading_order(slide.shapes):
            if shape.has_chart:
                notes.append(f"slide {number}: a chart was not read")
            elif not _is_title(shape, slide):
                yield _shape(shape)
        if slide.has_notes_slide and (frame := slide.notes_slide.notes_text_frame) is not None:
            yield paragraphs(frame.text)


def _shape(shape: Any) -> str:
    if shape.has_table:
        rows = [_cells(row.cells) for row in shape.table.rows]
        return table(rows, has_header=bool(shape.table.first_row) or None)
    return _texts(shape.text_frame.paragraphs) if shape.has_text_frame else ""


def _is_title(shape: Any, slide: Slide) -> bool:
    placeholder = slide.shapes.title
    return placeholder is not None and shape.shape_id == placeholder.shape_id


def _slide_title(slide: Slide) -> str:
    shape = slide.shapes.title
    return " ".join(shape.text_frame.text.split()) if shape is not None else ""


def _in_reading_order(shapes: Iterable[Any]) -> Iterator[Any]:
    """Yield shapes from top to bottom, then left to right; those of a group together."""
    for shape in sorted(shapes, key=lambda shape: (shape.top or 0, shape.left or 0)):
        if hasattr(shape, "shapes"):
            yield from _in_reading_order(shape.shapes)
        else:
            yield shape


def _texts(lines: Iterable[Any]) -> str:
    """Return the paragraphs of a text frame; several short ones are a list on most slides."""
    texts = [text for line in lines if (text := " ".join(line.text.split()))]
    return paragraphs("\n".join(f"- {text}" for text in texts) if len(texts) > 1 else "".join(texts))


def _cells(cells: Iterable[Any]) -> list[str]:
    """Return the texts of a row. A cell that another one covers repeats the text of the cell before it."""
    texts: list[str] = []
    for cell in cells:
        covered = cell.is_spanned and not cell.text.strip() and texts
        texts.append(texts[-1] if covered else cell.text)
    return texts
