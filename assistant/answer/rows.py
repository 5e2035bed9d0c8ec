"""Finds the rows of tables that a question names, and rows of two documents that give one thing other values.

Nothing here reads a language: a row is named by a cell of it that the question says: the whole first cell, or
half of any cell with a rare word that few of the table's other rows have. A thing is known by the first cells
of its row, as many as tell all rows of its table apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rapidfuzz.distance import OSA

from assistant.answer.scores import QuestionTerms, ScoredUnit
from assistant.answer.vocabulary import Term
from assistant.domain.documents import Unit, UnitKind
from assistant.text.language import fold

Stems = Callable[[str], frozenset[str]]
_RARE_FROM = 0.5
"""Weight of a word that is rare in its language."""
_LARGEST_SHARE = 0.5
"""Of a table's rows: a word that more of them hold tells none apart."""
_MISSPELT_FROM = 6
"""Letters of a word that one edit away from a row's word is taken for that."""
_LEADING_NUMBER = re.compile(r"\A\d+(?=[^\W\d_])")
"""Of "300mg": tables have "300 mg"."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row that the question names."""

    unit: Unit
    values: Mapping[str, str]
    """Text of each cell by its column's name, both folded and without white space."""
    key: frozenset[str]
    """The texts that tell it from the other rows of its table."""
    coverage: float
    """Share of the question's weight that the row, with the names of its columns, holds."""
    is_most: bool = True
    """Whether no other row of the document holds the same words of the question and more."""

    def differs_from(self, other: Row) -> bool:
        """Return whether both are of the same thing and a column of one name has another value."""
        if not (self.key <= {*other.values.values()} and other.key <= {*self.values.values()}):
            return False
        return any(other.values.get(name, value) != value for name, value in self.values.items() if name)


def rows_about(units: Sequence[ScoredUnit], asked: QuestionTerms, *, stems: Stems) -> tuple[Row, ...]:
    """Return the rows of a document that the question names, in order.

    ``units``: all of the document. ``stems``: of the content words of a text.
    """
    found: list[tuple[frozenset[int], Row]] = []
    for table in _tables([one.unit for one in units]):
        names = stems(" ".join({name for unit in table for name, _, _ in unit.cells}))
        held = [frozenset(unit.terms) - names for unit in table]
        wanted = [_forms(term, frozenset[str]().union(*held)) for term in asked.terms]
        matched = [frozenset(at for at, forms in enumerate(wanted) if forms & cells) for cells in held]
        counts = Counter(at for row in matched for at in row)
        values = [_values(unit) for unit in table]
        for place, (unit, row, key) in enumerate(zip(table, matched, _keys(values), strict=True)):
            said = frozenset[str]().union(*(wanted[at] for at in row if counts[at] < len(table)))
            few = (at for at in row if counts[at] <= _LARGEST_SHARE * len(table))
            rare = frozenset[str]().union(*(wanted[at] for at in few if asked.terms[at].weight >= _RARE_FROM))
            cells = [stems(_text(unit, cell)) for cell in range(len(unit.cells))] if said else []
            names_first = bool(cells and cells[0]) and cells[0] <= said
            if names_first or any(cell & rare and 2 * len(cell & said) >= len(cell) for cell in cells):
                held_by = frozenset(unit.terms).union(*(asked.terms[at].forms for at in row))
                found.append((row, Row(unit, values[place], key, asked.coverage(held_by))))
    return tuple(
        replace(row, is_most=not any(held_by < other for other, _ in found)) for held_by, row in found
    )


def _tables(units: Sequence[Unit]) -> list[list[Unit]]:
    """Return the rows with several cells of each table: of neighbours under one heading."""
    grouped = groupby(units, key=lambda unit: (unit.kind is UnitKind.ROW, unit.heading))
    tables = ([unit for unit in rows if len(unit.cells) > 1] for (is_table, _), rows in grouped if is_table)
    return [table for table in tables if table]


def _forms(term: Term, known: frozenset[str]) -> frozenset[str]:
    """Return the stems by which rows hold a term; of a word that none holds, those one edit away."""
    numbers = {found[0] for form in term.forms if (found := _LEADING_NUMBER.match(form))}
    if not known.isdisjoint(forms := term.forms | numbers) or term.weight < 1.0:
        return forms
    asked = [form for form in forms if len(form) >= _MISSPELT_FROM and form.isalpha()]
    return forms | {
        stem
        for form in asked
        for stem in known
        if stem[:1] == form[0] and OSA.distance(form, stem, score_cutoff=1) <= 1
    }


def _text(unit: Unit, place: int) -> str:
    _, start, end = unit.cells[place]
    return unit.text[start:end]


def _same(text: str) -> str:
    return "".join(fold(text).split())


def _values(unit: Unit) -> dict[str, str]:
    return {_same(name): _same(_text(unit, place)) for place, (name, _, _) in enumerate(unit.cells)}


def _keys(rows: Sequence[Mapping[str, str]]) -> list[frozenset[str]]:
    """Return of each row the texts of its first columns, as many as tell all rows of the table apart."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    for size in range(1, len(names) + 1):
        keys = [tuple(row.get(name, "") for name in names[:size]) for row in rows]
        if len(set(keys)) == len(keys):
            return [frozenset(filter(None, key)) for key in keys]
    return [frozenset(row.values()) for row in rows]


def differing(rows: Sequence[Row], others: Sequence[Row]) -> tuple[Row, ...]:
    """Return those of the other document's rows that give the thing of one of the rows another value."""
    return tuple(other for other in others if any(row.differs_from(other) for row in rows))


def with_titles(units: Sequence[ScoredUnit], rows: Collection[int]) -> frozenset[int]:
    """Return the ordinals of the rows, of the titles between rows above them, and of what introduces them."""
    kept, title = set[int](), None
    for unit in (one.unit for one in units):
        if unit.kind is not UnitKind.ROW or len(unit.cells) == 1:
            title = unit.ordinal if unit.kind is UnitKind.ROW else None
        if unit.ordinal in rows:
            kept.update(at for at in (unit.ordinal, unit.parent, title) if at is not None)
    return frozenset(kept)
