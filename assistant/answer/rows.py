"""Finds the rows of tables that a question names, and rows of two documents that give one thing other values.

"Is warfarin 5 mg covered?" names the second row of this table, by its first cell, and no other::

    | Drug          | Plan   | Covered |
    | Warfarin 1 mg | Retail | yes     |
    | Warfarin 5 mg | Retail | no      |
    | Insulin pen   | Mail   | yes     |

Nothing here reads a language. A row is named where the question has the words of its whole first cell, or of
half of any cell, one of them a rare word that few of the table's other rows have. What all rows have, and the
columns' names, tell none apart: each row is compared by what differs. Where a question has the code of a row
("QX-1417"), it names the rows with the code alone. A row is about the thing that its first cells say, as many
as tell all rows of its table apart: here the first one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rapidfuzz.distance import OSA

from assistant.answer.scores import QuestionTerms, ScoredUnit
from assistant.answer.vocabulary import Term
from assistant.domain.documents import Unit, UnitKind
from assistant.text.language import fold

Stems = Callable[[str], frozenset[str]]
"""Returns the stems of the content words of a text."""
_RARE_FROM = 0.5
"""Weight of a term from which it is rare in its language. ``Term.weight`` goes from 0.05 for the most common
word to 1.05 for a word that is not among the common words; a code weighs 2."""
_UNKNOWN_FROM = 1.0
"""Weight of a term from which it is not among the common words at all: it may be misspelt."""
_LARGEST_SHARE = 0.5
"""Of a table's rows: a word that more of them hold tells none apart."""
_MISSPELT_FROM = 6
"""Letters of a question's word that may be a misspelt word of a row: shorter ones are alike by chance."""
_LEADING_NUMBER = re.compile(r"\A\d+(?=[^\W\d_])")
"""Of "300mg": tables have "300 mg"."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row that the question names.

    Example: of the second row of the table above ``values`` is {"drug": "warfarin5mg", "plan": "retail",
    "covered": "no"}, and ``key`` {"warfarin5mg"}.
    """

    unit: Unit
    values: Mapping[str, str]
    """Text of each cell by its column's name, both folded and without white space."""
    key: frozenset[str]
    """Of ``values``, those that tell it from the other rows of its table."""
    coverage: float
    """Share of the question's weight that the row, with the names of its columns, holds; 1 with its code."""
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
    coded = {scored.unit.ordinal for scored in units if scored.code_score}
    tables = _tables([scored.unit for scored in units])
    named = [row for table in tables for row in _named(table, asked, stems, coded)]
    return tuple(replace(row, is_most=not any(terms < more for more, _ in named)) for terms, row in named)


def _named(
    table: Sequence[Unit], asked: QuestionTerms, stems: Stems, coded: Collection[int]
) -> Iterator[tuple[frozenset[int], Row]]:
    """Yield the rows of one table that the question names, each with the indices in ``asked.terms`` of the
    terms that it holds. ``coded``: ordinals of the document's rows with a code of the question.

    Example, "Is warfarin 5 mg covered?" about the table above::

        column_stems     {"drug", "plan", "cover"}
        stems_of_rows    [{"warfarin", "1", "mg", "retail"}, {"warfarin", "5", "mg", "retail"}, …]
        forms_of_terms   [{"warfarin"}, {"5"}, {"mg"}, {"cover"}]
        matches_of_rows  [{0, 2}, {0, 1, 2}, {}]; rows_with {0: 2, 1: 1, 2: 2}
        second row       telling [0, 1, 2]; few [1]; rare {}, as a number weighs 0.2

    The question has all stems of the second row's first cell, and telling ones among them, so the row is
    named; "1" of the first row's it has not. ``few`` are the telling terms that at most _LARGEST_SHARE of the
    rows have.
    """
    column_stems = stems(" ".join({name for unit in table for name, _, _ in unit.cells}))
    stems_of_rows = [frozenset(unit.terms) - column_stems for unit in table]
    forms_of_terms = [_forms(term, _all(stems_of_rows)) for term in asked.terms]
    matches_of_rows = [
        frozenset(index for index, forms in enumerate(forms_of_terms) if forms & row_stems)
        for row_stems in stems_of_rows
    ]
    rows_with = Counter(index for matches in matches_of_rows for index in matches)
    values, asked_stems = [_values(unit) for unit in table], _all(forms_of_terms)
    for unit, matches, row_values, key in zip(table, matches_of_rows, values, _keys(values), strict=True):
        telling = [index for index in matches if not coded and rows_with[index] < len(table)]
        few = [index for index in telling if rows_with[index] <= _LARGEST_SHARE * len(table)]
        rare = _all(forms_of_terms[index] for index in few if asked.terms[index].weight >= _RARE_FROM)
        telling_stems = _all(forms_of_terms[index] for index in telling)
        if unit.ordinal in coded or (telling and _is_named(unit, asked_stems, telling_stems, rare, stems)):
            # With the forms of the question: a row with "300 mg" covers its "300mg".
            held = _all((unit.terms, *(asked.terms[index].forms for index in matches)))
            yield matches, Row(unit, row_values, key, 1.0 if coded else asked.coverage(held))


def _is_named(
    unit: Unit, asked: frozenset[str], telling: frozenset[str], rare: frozenset[str], stems: Stems
) -> bool:
    """Return whether a question names a row: with its whole first cell, or half of any cell with a rare word.

    ``asked``: the stems of the question's words. ``telling``: those that tell the table's rows apart.
    ``rare``: those of them that are rare and in few rows.
    """
    cells = [stems(text) for text in unit.cell_texts]
    is_first = bool(cells[0] & telling) and cells[0] <= asked
    return is_first or any(cell & rare and 2 * len(cell & telling) >= len(cell) for cell in cells)


def _all(parts: Iterable[Iterable[str]]) -> frozenset[str]:
    """Return the stems of all parts."""
    return frozenset[str]().union(*parts)


def _tables(units: Sequence[Unit]) -> list[list[Unit]]:
    """Return the rows of each table, those with several cells: a row of one cell is a title between them.

    Rows are of one table where they are neighbours under one heading.
    """
    grouped = groupby(units, key=lambda unit: (unit.kind is UnitKind.ROW, unit.heading))
    return [[unit for unit in rows if len(unit.cells) > 1] for (is_table, _), rows in grouped if is_table]


def _forms(term: Term, known: frozenset[str]) -> frozenset[str]:
    """Return the stems by which rows may hold a term.

    ``known``: the stems of all rows. A number before letters is a form: "300mg" finds "300 mg". Stems that
    are one edit away stand for a word that is unknown and in no row: "warfarin" for "warfrin".
    """
    numbers = {number[0] for form in term.forms if (number := _LEADING_NUMBER.match(form))}
    forms = term.forms | numbers
    if not known.isdisjoint(forms) or term.weight < _UNKNOWN_FROM:
        return forms
    long_forms = [form for form in forms if len(form) >= _MISSPELT_FROM and form.isalpha()]
    return forms | {
        stem
        for form in long_forms
        for stem in known
        if stem[:1] == form[0] and OSA.distance(form, stem, score_cutoff=1) <= 1
    }


def _same(text: str) -> str:
    """Return what two spellings of one value have in common: "5 MG" and "5mg" are "5mg"."""
    return "".join(fold(text).split())


def _values(unit: Unit) -> dict[str, str]:
    """Return ``Row.values``. Of cells without a name the first counts: a row's last one may be its note."""
    values = dict[str, str]()
    for (name, _, _), text in zip(unit.cells, unit.cell_texts, strict=True):
        values.setdefault(_same(name), _same(text))
    return values


def _keys(rows: Sequence[Mapping[str, str]]) -> list[frozenset[str]]:
    """Return ``Row.key`` of each row: its first columns, as many as tell all rows of the table apart.

    All columns, where rows are equal.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    for size in range(1, len(names) + 1):
        keys = [tuple(row.get(name, "") for name in names[:size]) for row in rows]
        if len(set(keys)) == len(keys):
            return [frozenset(filter(None, key)) for key in keys]
    return [frozenset(row.values()) for row in rows]


def with_titles(units: Sequence[ScoredUnit], rows: Collection[int]) -> frozenset[int]:
    """Return the ordinals of these rows, of the titles between rows above them, and of what introduces them.

    ``units``: all of the document. ``rows``: ordinals. Example: where 6 is the sentence above a table, 7 a
    title in it ("Retail", one cell), and 8 and 9 are rows, ``with_titles(units, {9})`` is {6, 7, 9}.
    """
    kept, title = set[int](), None
    for unit in (scored.unit for scored in units):
        if unit.kind is not UnitKind.ROW:
            title = None  # the table has ended
        elif len(unit.cells) == 1:
            title = unit.ordinal
        if unit.ordinal in rows:
            kept.update(ordinal for ordinal in (unit.ordinal, unit.parent, title) if ordinal is not None)
    return frozenset(kept)
