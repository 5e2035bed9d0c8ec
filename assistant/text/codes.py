"""Codes of a text, each as one term: "QX-1417", "4.2.1", "12.5/25", "0002-8215-01", "J3490", "10115".

A code has three digits or more, in parts of letters or of digits; or it is a number of five digits or more.
A number with its unit ("300 mg", "30-day"), a range and a date are none. Its *term* is its folded parts with
hyphens between them, so that each way to write a code has the same one: "QX-1417", "qx 1417" and "QX1417" are
all "qx-1417".

codes_in("The fee (QX-1417) is due.")  # ["qx-1417"]
codes_asked("fee of qx 1417")  # {"of-qx-1417": "of qx 1417", "qx-1417": "qx 1417"}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from assistant.domain.documents import Unit
from assistant.text.language import fold

_TOKEN = re.compile(r"[^\W_]+(?:[-\u2010-\u2015./_][^\W_]+)*")
_PART = re.compile(r"\d+|[^\W\d_]+")
_DIGIT = re.compile(r"\d")
_WITH_DIGIT = re.compile(r"[^\W_]*\d[^\W_]*")
_NO_CODE = re.compile(
    r"\d{1,4}(?:\.\d+)?[^\W\d_]*"  # "2026", "12.5mg"
    r"|\d+(?:\.\d+)?-?[^\W\d_]+"  # "30-day"
    r"|\d{1,3}[-\u2010-\u2015]\d{1,3}|\d{1,2}/\d{1,2}"  # "10-14", "24/7"
    r"|\d+\.\d+"
    r"|\d{1,2}[-/]\d{1,2}[-/]\d{2,4}|\d{1,2}\.\d{1,2}\.\d{4}|\d{4}[-./]\d{1,2}[-./]\d{1,2}"
)
"""Numbers, with a unit; ranges; days, and dates."""
_LEAST_DIGITS = 3
"""Tokens with fewer are words of their field, which the indexes have by their parts: "A1C", "COVID-19"."""
_MOST_TOKENS = 3
"""Tokens of a question, with blanks between them, that may be one code."""


def term_of(text: str) -> str:
    """Return the parts of a text as one term: "qx-1417" of "QX 1417"."""
    return "-".join(_PART.findall(fold(text)))


def codes_in(text: str) -> list[str]:
    """Return the terms of a text's codes, in order."""
    return [term_of(token) for token in _TOKEN.findall(text) if _is_code(token)]


def numbers_in(text: str) -> frozenset[str]:
    """Return every token of a text that has a digit, without leading zeros: "079" is "79"."""
    return frozenset(word.lstrip("0") or "0" for word in _WITH_DIGIT.findall(fold(text)))


def codes_of_cell(text: str) -> frozenset[str]:
    """Return the terms of the codes in a cell, and of the whole cell: "QX 1417" may be one."""
    return frozenset((*codes_in(text), term_of(text)))


def codes_asked(question: str) -> dict[str, str]:
    """Return what may be a code in a question, by its term: each code, and up to three tokens with blanks
    between them."""
    found: dict[str, str] = {}
    if len(_DIGIT.findall(question)) < _LEAST_DIGITS:
        return found
    spans = [token.span() for token in _TOKEN.finditer(question)]
    for at, (start, _) in enumerate(spans):
        ended = start - 1
        for begins, end in spans[at : at + _MOST_TOKENS]:
            if begins != start and question[ended:begins] != " ":
                break  # no longer text from here is one token either
            ended, written = end, question[start:end]
            if _is_code(written.replace(" ", "-")):
                found.setdefault(term_of(written), written)
    return found


def rows_with_code(asked: Mapping[str, str], units: Iterable[Unit]) -> frozenset[int]:
    """Return the ordinals of the rows of a document that have a code of the question in a cell; none where
    more than half of its rows have one, for it does not tell them apart."""
    rows = [unit for unit in units if asked and len(unit.cells) > 1]
    coded = [
        unit.ordinal for unit in rows if any(asked.keys() & codes_of_cell(text) for text in unit.cell_texts)
    ]
    return frozenset(coded if 2 * len(coded) <= len(rows) else ())


def unknown_codes(
    asked: Mapping[str, str], title: str, shown: Sequence[Unit], read: Iterable[Unit]
) -> tuple[str, ...]:
    """Return the codes of a question that no shown unit and not their title has, as the question writes them.

    ``read``: all units that were read. Tokens with blanks between them are a code where a cell of these units
    is like them but for its digits, as "QX-1598" is like "qx 1417". So is a number, or where rows are shown.
    """
    if not asked or not shown:
        return ()
    texts = (text for unit in shown for text in (title, unit.heading, unit.text, *unit.cell_texts))
    has = {term for text in dict.fromkeys(texts) for term in (term_of(text), *codes_asked(text))}
    forms = {_form(term) for unit in read for text in unit.cell_texts for term in codes_of_cell(text)}
    is_row = len(shown[0].cells) > 1
    return tuple(
        written
        for term, written in asked.items()
        if term not in has
        if _form(term) in forms or (_is_code(written) and (is_row or not written.isdigit()))
    )


def _form(term: str) -> str:
    """Return what codes of one kind have in common: "qx-0000"."""
    return _DIGIT.sub("0", term)


def _is_code(token: str) -> bool:
    """Return whether a text is one token, and a code."""
    is_long = len(_DIGIT.findall(token)) >= _LEAST_DIGITS
    return is_long and bool(_TOKEN.fullmatch(token)) and not _NO_CODE.fullmatch(token)
