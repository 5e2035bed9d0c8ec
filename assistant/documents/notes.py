"""Places notes below the section that has their mark, for all formats.

A page may have its notes at its end, sections away from what they change. Each section is found and quoted
alone, so a note must be in it: "Guests pay $6 a day [g]" below "Parking" gets "[g] Guests are visitors".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from assistant.documents.page import Block, Heading, List, Note, Paragraph, Run, Shift, all_runs, text_of

_BRACKETED = re.compile(r"\[([^\]\s]{1,20})\](?=\s)")
"""The begin of a note whose mark is not raised: "[1] Only for adults."."""
_IN_BRACKETS = re.compile(r"\[([^\]\s]{1,20})\]")
_SIGNS = "[]() \n"
"""What may be around a raised mark."""


def with_notes(blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks with each note at the end of every section that has its mark since the note before
    that has the same; a note whose mark is in no other section stays."""
    sections: list[list[Block]] = [[]]
    for block in blocks:
        if isinstance(block, Heading):
            sections.append([])
        sections[-1].extend(_parts(block))
    marks = [set(_marks_in(section)) for section in sections]
    added: list[list[Block]] = [[] for _ in sections]
    begins = dict[str, int]()  # by mark: the first section that the next note with it may belong to
    for at, section in enumerate(sections):
        for block, mark in [(block, mark) for block in section if (mark := _mark(block))]:
            homes = [place for place in range(begins.get(mark, 0), at) if mark in marks[place]]
            begins[mark] = at
            for home in homes:
                added[home].append(replace(block, place=None))
            if homes and mark not in marks[at]:
                section.remove(block)
    if not any(added):
        return [*blocks]
    return [block for pair in zip(sections, added, strict=True) for part in pair for block in part]


def note_marks(blocks: Iterable[Block]) -> frozenset[str]:
    """Return the marks of the notes of a page, also of those in lists."""
    marks = set[str]()
    for block in blocks:
        if isinstance(block, List):
            marks |= note_marks(inner for item in block.items for inner in item.blocks)
        else:
            marks.update(map(_mark, _parts(block)))
    return frozenset(marks)


def _parts(block: Block) -> Iterator[Block]:
    """Yield the notes of a paragraph of several: "¹ Only for adults. ² Once a year."; else the block."""
    if not isinstance(block, Paragraph) or not block.runs or block.runs[0].shift is not Shift.RAISED:
        yield block
        return
    runs = pairwise((Run(" "), *block.runs))
    begins = [at for at, (before, run) in enumerate(runs) if _is_raised(run) and before.text[-1:].isspace()]
    for begin, end in pairwise((*begins, len(block.runs))):
        yield replace(block, runs=block.runs[begin:end])


def _is_raised(run: Run) -> bool:
    return run.shift is Shift.RAISED and bool(run.text.strip(_SIGNS))


def _mark(block: Block) -> str:
    """Return the mark of a note; "" for another block."""
    if isinstance(block, Note):
        return block.mark
    if not isinstance(block, Paragraph) or not block.runs:
        return ""
    if _is_raised(block.runs[0]):
        return block.runs[0].text.strip(_SIGNS)
    found = _BRACKETED.match(text_of(block.runs))
    return found[1] if found else ""


def _marks_in(blocks: Sequence[Block]) -> Iterator[str]:
    """Yield the marks in the blocks that are no notes: raised texts, and texts in brackets."""
    for runs in all_runs(block for block in blocks if not _mark(block)):
        yield from (run.text.strip(_SIGNS) for run in runs if _is_raised(run))
        yield from _IN_BRACKETS.findall(text_of(runs))
