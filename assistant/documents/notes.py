"""Places each note with what has its mark, for all formats.

A page may have its notes at its end, sections away from what they change. A section is found and quoted
alone, and so is a row of a table, so a note must be in both: the row "Fridge | 70 (2)" gets a last cell "(2)
Only in foil.", and its section a paragraph.

A mark is raised, a sign ("*", "¹"), in brackets or parentheses ("[1]", "(a)", "1)") or a code ("B1"). A text
that begins with a mark is a note only where another text has that mark behind a word or value: lists and
clauses that nothing refers to stay as they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, compress, pairwise, zip_longest

from assistant.documents.page import (
    SENTENCE_ENDS,
    Block,
    Cell,
    Heading,
    Item,
    List,
    Note,
    Paragraph,
    Run,
    Runs,
    Shift,
    Table,
    all_runs,
    text_of,
    trimmed,
)
from assistant.documents.tables import grid_of

_STARS = r"\*{1,3}\)?|[†‡§¶]{1,3}"
_SMALL = r"[¹²³⁰⁴-⁹]{1,2}\)?"
_BRACKETS = r"\[\^?[^\]\s]{1,20}\]"
_PARENTHESES = r"\((?:\d{1,2}|[A-Za-z]|[ivx]{2,4}|\*{1,3})\)"
_HALF = r"(?:\d{1,2}|[a-z])\)"
_CODE = r"[A-Z]{1,2}\d{1,2}"
_BEGIN = re.compile(
    rf"(?P<apart>\A\s*|\n[^\S\n]*|(?<=\s\s))?(?<!\S)(?:(?P<sign>{_STARS}|{_SMALL}|\+)(?=\s|\Z)"
    rf"|(?P<other>{_BRACKETS}|{_PARENTHESES}|{_HALF}|{_CODE})(?=[\s:]|\Z))"
    rf"|(?:\A\s*|\n[^\S\n]*)(?P<joined>{_STARS}|{_SMALL})(?=[\w(])(?![^*\n]*\*)"
)
"""What may be the mark at the begin of a note; ``apart``: it begins a text or line, or two blanks are before
it; ``joined``: so, and no blank is after it."""
_REFERENCE = re.compile(
    rf"(?P<mark>{_BRACKETS}|(?<=[^\s*(])(?:{_STARS})(?![\w*])|(?<=[^\S\n])(?:{_STARS}|\+)(?=\s?(?:\Z|[\n,;.:|)]))"
    rf"|(?<!10)(?<![\W\d_cdkmµ]m)(?<!\n){_SMALL}(?!\w)"
    rf"|(?<=[^\S\n]){_PARENTHESES}(?=[^\S\n]?(?:\Z|[\n,;|/])))|(?<=[\s:,(])(?P<of_cell>{_HALF}|{_CODE})\)?\Z"
)
"""A mark behind a word or value, and no exponent ("10³", "m²"). ``of_cell``: one that ends a cell."""
_MAY_REFER = re.compile(r"[\[*+†‡§¶¹²³⁰⁴-⁹)]|[A-Z]\d{1,2}\Z")
_IS_LEGEND = re.compile(r"\A\S{1,3} ?[=:]")
_CLOSED = (". ", "! ", "? ", "; ")
_EMPHASIS = re.compile(r"(?<!\S)(\*{1,3})(?=[^\s*])[^*\n]*\1")
"""Stars around words, "*never*", as plain text has them."""
_INNER = re.compile(rf"(?<=\s)(?:{_STARS})(?=[^\W\d_])")
"""The mark of a note in the text that has the mark: "Checkup* Once a year. *Not for adults."."""
_AROUND = "[]()^ \n"
"""What may be around a mark."""
_NARROWEST = 40
"""Characters: a shorter line was ended on purpose."""
_LONGEST_IN_ROW = 400
"""Characters of a note that each row with its mark repeats."""
_NUMBER = re.compile(r"\[(\d{1,2})\]")
_EMPTY = Cell(())


@dataclass(slots=True, eq=False)
class _Part:
    """A block, or a note that is a part of one."""

    block: Block
    mark: str = ""
    """Of the note that it is; "" for another block."""
    is_item: bool = False
    """Whether it is an item of a list, and no "* = only with card"."""
    section: int = 0
    """Number of headings above."""
    marks: set[str] = field(default_factory=set[str])
    """Marks in its block that refer to notes."""
    notes: dict[str, _Part] = field(default_factory=dict[str, "_Part"])
    """Note of each mark in it."""
    homes: set[int] = field(default_factory=set[int])
    """Sections in which this note is placed; none for another block."""


def with_notes(blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks with each note in every section, and every row of a table, that has its mark.

    Of notes with the same mark the nearest below counts. A note leaves its section where the mark is only in
    others.
    """
    blocks = _with_numbered_notes(blocks)
    begun = {mark for block in blocks for mark in _begun(block) if mark}
    referred = [begun and begun.intersection(_marks_in(block, begun)) for block in blocks]
    marks = set[str]().union(*referred)
    marks = {mark for mark in marks if _first_of(mark) in marks}
    if not marks:
        return [*blocks]
    pieces = [[*_parts(block, marks)] for block in blocks]
    sections = list(accumulate(isinstance(block, Heading) for block in blocks))
    for section, piece, referring in zip(sections, pieces, referred, strict=True):
        for part in piece:
            part.section, part.marks = section, referring & marks
    _find_notes([part for piece in pieces for part in piece])
    _find_legends([part for piece in pieces for part in piece])
    made: list[list[Block]] = [[] for _ in range(sections[-1] + 1)]
    for block, section, piece in zip(blocks, sections, pieces, strict=True):
        notes = {mark: note.block for part in piece for mark, note in part.notes.items()}
        stays = [part.block for part in piece if not part.homes or section in part.homes]
        is_split = any(part.homes for part in piece) and (
            len(stays) < len(piece) or not isinstance(block, Paragraph)
        )
        for part in stays if is_split else [block]:
            made[section].append(_with_row_notes(part, notes) if isinstance(part, Table) else part)
    for note in (part for piece in pieces for part in piece):
        for home in note.homes - {note.section}:
            made[home].append(replace(note.block, place=None))
    return [block for section in made for block in section]


def _with_numbered_notes(blocks: Sequence[Block]) -> Sequence[Block]:
    """Return the blocks with the items of a numbered list at their end as notes, where the text has each of
    their numbers in brackets: "A key is 20 [2]"."""
    if not blocks or not isinstance(items := blocks[-1], List) or not items.is_ordered:
        return blocks
    marks = {mark for runs in all_runs(blocks[:-1]) for mark in _NUMBER.findall(text_of(runs))}
    notes = [Note(item.marker.strip(".)"), item.blocks) for item in items.items]
    return [*blocks[:-1], *notes] if marks.issuperset(note.mark for note in notes) else blocks


def note_marks(blocks: Iterable[Block]) -> frozenset[str]:
    """Return the marks of the notes of a page, also of those in lists, that may be raised in its text."""
    marks = set[str]()
    for block in blocks:
        if isinstance(block, List):
            marks |= note_marks(inner for item in block.items for inner in item.blocks)
        elif isinstance(block, Note | Paragraph):
            is_raised = isinstance(block, Note) or any(map(_is_raised, block.runs[:1]))
            marks.update(mark for mark in _begun(block) if is_raised or mark.isalnum())
    return frozenset(marks)


def _find_notes(parts: Sequence[_Part]) -> None:
    """Find the nearest note below each mark. Neighbours with the same mark are a list and no notes."""
    alike = [pair for pair in pairwise(parts) if pair[0].mark == pair[1].mark]
    for part in (part for pair in alike for part in pair):
        part.mark = ""
    nearest = dict[str, _Part]()
    for part in reversed(parts):
        if part.mark:
            nearest[part.mark] = part
            continue
        for note in (nearest[mark] for mark in part.marks if mark in nearest):
            part.notes[note.mark] = note
            note.homes |= {part.section, *([note.section] if re.fullmatch(_CODE, note.mark) else ())}


def _find_legends(parts: Sequence[_Part]) -> None:
    """Find the legend above each sign without a note below; no text above a legend has its sign."""
    legends = dict[str, _Part]()
    for part in parts:
        if part.mark and not part.homes and not part.is_item and not part.mark.strip("*†‡§¶"):
            legends[part.mark] = part
        elif legends and not part.mark:
            for mark in part.marks & legends.keys() - part.notes.keys():
                part.notes[mark] = legends[mark]
                legends[mark].homes |= {part.section, legends[mark].section}


# Notes


def _begun(block: Block) -> Iterator[str]:
    """Yield the marks with which notes in a block may begin."""
    if isinstance(block, Note):
        yield block.mark
    for runs in _texts(block):
        yield from (mark for _, mark in _begins(runs))


def _texts(block: Block) -> list[Runs]:
    """Return the texts in a block that may be notes: a paragraph, each item of a list, each row."""
    match block:
        case Paragraph():
            return [block.runs]
        case List():
            return [*map(_item_text, block.items)]
        case Table():
            return [() if at < block.header_rows else _row_text(row) for at, row in enumerate(block.rows)]
        case _:
            return []


def _item_text(item: Item) -> Runs:
    """Return the text of an item, with its marker where that may be a mark; none for several blocks."""
    first = item.blocks[0] if len(item.blocks) == 1 else None
    marker = f"{item.marker} "
    marked = (Run(marker),) if _BEGIN.match(marker) else ()
    return (*marked, *first.runs) if isinstance(first, Paragraph) else ()


def _row_text(row: Sequence[Cell]) -> Runs:
    """Return the text of a row of one cell, or of a mark and a cell; none for other rows."""
    cells = [cell for cell in row if cell.blocks]
    if not 0 < len(cells) < 3 or cells[0].is_name:
        return ()
    first, *other = ([run for runs in all_runs(cell.blocks) for run in (*runs, Run(" "))] for cell in cells)
    is_mark = [mark for _, mark in _begins(first)] == [_key(text_of(first).strip())]
    return trimmed(run for runs in (first, *other) for run in runs) if is_mark or not other else ()


def _parts(block: Block, marks: Collection[str]) -> Iterator[_Part]:
    """Yield a block without its notes, then these. An item or row is one if it alone begins with its mark."""
    if isinstance(block, Note):
        yield _Part(block, block.mark)
        return
    if isinstance(block, Paragraph):
        yield from _cut(block)
        return
    texts = _texts(block)
    begins = [next((mark for at, mark in _begins(runs) if at == 0), "") for runs in texts]
    counts = Counter(begins)
    are_others = [mark not in marks or counts[mark] > 1 for mark in begins]
    match block:
        case List() if items := tuple(compress(block.items, are_others)):
            yield _Part(replace(block, items=items))
        case Table() if rows := tuple(compress(block.rows, are_others)):
            yield _Part(replace(block, rows=rows))
        case List() | Table():
            pass
        case _:
            yield _Part(block)
    for runs in (runs for runs, is_other in zip(texts, are_others, strict=True) if not is_other):
        is_item = isinstance(block, List) and not _IS_LEGEND.search(text_of(runs))
        yield from (replace(part, is_item=is_item) for part in _cut(Paragraph(runs)))


def _cut(block: Paragraph) -> Iterator[_Part]:
    """Yield the notes of a paragraph: "¹ Only for adults. ² Once a year."; and what is none."""
    begins = _begins(block.runs)
    ends = [*(at for at, _ in begins), sum(len(run.text) for run in block.runs)]
    texts: list[list[Run]] = [[] for _ in ends]
    at = number = 0
    for run in block.runs:
        text = run.text
        while at + len(text) > ends[number]:
            size = ends[number] - at
            texts[number].append(replace(run, text=text[:size]))
            text, at, number = text[size:], ends[number], number + 1
        texts[number].append(replace(run, text=text))
        at += len(text)
    for mark, runs in zip(("", *(mark for _, mark in begins)), texts, strict=True):
        if shown := trimmed(runs):
            lines = (replace(run, text=run.text.replace("\n", " ")) for run in shown)
            yield _Part(Paragraph(tuple(lines), block.place) if mark else replace(block, runs=shown), mark)


def _begins(runs: Sequence[Run]) -> list[tuple[int, str]]:
    """Return where notes may begin in a text, and their marks; the mark "" where one ends."""
    text = text_of(runs)
    tokens = dict[int, tuple[str, bool, bool]]()  # mark; whether a note begins here; whether after another
    for found in _BEGIN.finditer(text):
        at, mark = found.start(found.lastgroup or 0), found["sign"] or found["other"] or found["joined"] or ""
        is_closed = text.endswith(_CLOSED, 0, at)
        is_sure = found["apart"] is not None or bool(found["joined"] or (found["sign"] and is_closed))
        tokens[at] = _key(mark), is_sure, is_closed or not found["other"]
    lines = text.split("\n") if tokens else []
    at = -1
    for line, below in pairwise(lines):
        at += len(line) + 1
        if (
            (line.endswith(SENTENCE_ENDS) or len(line) < _NARROWEST)
            and not below[:1].isspace()
            and not below[:1].islower()
        ):
            tokens[at] = "", False, True
    at = 0
    for before, run in pairwise((Run(" "), *runs)):
        if _is_raised(run) and before.text[-1:].isspace():
            tokens[at] = run.text.strip(_AROUND), at == 0, True
        at += len(run.text)
    counts = Counter(mark for mark, *_ in tokens.values())
    begins = list[tuple[int, str]]()
    for at, (mark, is_sure, is_later) in sorted(tokens.items()):
        if (counts[mark] == 1 or not mark) and (is_sure or (begins and is_later)):
            begins.append((at, mark))
    return begins


# Marks


def _is_raised(run: Run) -> bool:
    return run.shift is Shift.RAISED and bool(run.text.strip(_AROUND))


def _key(mark: str) -> str:
    """Return a mark as those that mean the same: "[1]" and "¹" as "1", "*)" as "*"; "(1)" and "1)" stay."""
    bare = unicodedata.normalize("NFKC", mark).strip(_AROUND)
    return mark if mark.endswith(")") and mark.isascii() and bare.isalnum() else bare


def _first_of(mark: str) -> str:
    """Return the first of the marks that a mark in parentheses is one of: "(a)" for "(c)". Where nothing
    refers to that, the others are of a list, or mean something else: "for a family (4)"."""
    if not mark.endswith(")"):
        return mark
    first = re.sub("[ivx]{2,4}", "i", mark)
    return first if first != mark else re.sub("[a-z]", "a", re.sub("[A-Z]", "A", re.sub(r"\d+", "1", mark)))


def _marks_in(block: Block, notes: Collection[str]) -> Iterator[str]:
    """Yield the marks in a block that refer to one of the notes with these marks."""
    match block:
        case Note():
            pass
        case Table():
            for row in block.rows:
                for at, cell in enumerate(row):
                    yield from _marks_of(cell, notes, is_first=at == 0)
        case _:
            for runs in all_runs([block]):
                yield from _references(runs, notes)


def _marks_of(cell: Cell, notes: Collection[str], *, is_first: bool) -> Iterator[str]:
    """Yield the marks in a cell. A mark alone in a first cell is that of a legend."""
    for runs in all_runs(cell.blocks):
        yield from _references(runs if is_first else (Run("- "), *runs), notes, is_cell=True)


def _references(runs: Sequence[Run], notes: Collection[str], *, is_cell: bool = False) -> Iterator[str]:
    """Yield the marks in a text behind words and values."""
    text = text_of(runs)
    places = list[tuple[int, str]]()
    if _MAY_REFER.search(text):
        text = _EMPHASIS.sub(lambda words: " " * len(words[0]), text)
        explained = {found[0] for found in _INNER.finditer(text)}
        for found in _REFERENCE.finditer(text):
            mark = found["mark"] or (found["of_cell"] if is_cell else "")
            is_inner = bool(found["of_cell"]) and mark.endswith(")") and "(" in text  # "(see 1)"
            is_inner = is_inner or mark in explained
            places.append((found.start(found.lastgroup or 0), "" if is_inner else _key(mark)))
    at = 0
    for run in runs:
        if _is_raised(run):
            places += ((at, run.text.strip(_AROUND)), (at, run.text.strip()))
        at += len(run.text)
    if any(mark in notes for _, mark in places):
        begins = {at for at, _ in _begins(runs)}
        yield from (mark for at, mark in places if mark in notes and at not in begins)


# Rows


def _with_row_notes(table: Table, notes: Mapping[str, Block]) -> Table:
    """Return the table with the notes of each row, and of the names of its texts, in a cell at its end, which
    has no name."""
    grid = grid_of(table.rows)
    width = max(map(len, grid), default=0)
    marks = {
        id(cell): [*_marks_of(cell, notes, is_first=at == 0)]
        for line in grid
        for at, cell in enumerate(line)
        if cell
    }
    rows = list[tuple[Cell, ...]]()
    for number, (row, line) in enumerate(zip(table.rows, grid, strict=True)):
        named = [
            cells for cells in zip_longest(*grid[: table.header_rows], line) if cells[-1] and cells[-1].blocks
        ]
        own = dict.fromkeys(mark for cells in named for cell in cells if cell for mark in marks[id(cell)])
        texts = tuple(notes[mark] for mark in own if _is_short(notes[mark]))
        if len(row) == 1 and row[0].columns == width > 1:
            rows.append((replace(row[0], columns=width + 1),))
        elif texts and row and number >= table.header_rows:
            rows.append((*row, *(_EMPTY for _ in range(width - len(line))), Cell(texts)))
        else:
            rows.append(row)
    is_wider = any(len(made) > len(row) for made, row in zip(rows, table.rows, strict=True))
    return replace(table, rows=tuple(rows)) if is_wider else table


def _is_short(note: Block) -> bool:
    return sum(len(text_of(runs)) for runs in all_runs([note])) <= _LONGEST_IN_ROW
