"""A system's response, checked against its connector and made ready to be shown.

The response is untrusted: another type, a missing value or another person's id refuses it whole, and texts
are neutralised as those of documents are.

    reader = ResponseReader(connector, operation, asked={"order_id": "4471-2208"}, context=context)
    reading = reader.read(b'{"status": "SHP", "due": "2026-11-24"}', as_of=now)
    reading.single    # {"status": ShownValue("Shipped", "good"), "due": ShownValue("Nov 24, 2026")}
    element_data(element, operation=operation, reading=reading)   # what one element shows of it
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, cast
from zoneinfo import ZoneInfo

import orjson
from rapidfuzz.distance import OSA

from assistant.domain.identity import CareContext
from assistant.domain.live import (
    LONGEST_SHOWN,
    ElementData,
    ElementKind,
    ElementProblem,
    ElementRow,
    ElementValue,
    LiveReadError,
    Tone,
)
from assistant.options.live.connector import (
    MOST_ROWS,
    Connector,
    ConnectorElement,
    Operation,
    ResultField,
    matches_whole,
)
from assistant.options.live.parameters import context_ids, is_iso_date
from assistant.text.language import fold
from assistant.text.safe_markdown import safe_markdown

# "-12.50"; an address of ASCII with a path; a path with a step up, "/a/../b", also as "%2e%2e".
_AMOUNT = re.compile(r"-?\d{1,12}(\.\d{1,6})?", re.ASCII)
_ADDRESS = re.compile(r"https://[A-Za-z0-9.-]+(?::\d{1,5})?/[A-Za-z0-9._~%!$&'()*+,;=:@/?#-]*")
_UP = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$|[?#])", re.IGNORECASE)
_LARGEST = 10**15
"""Bound of numbers: a float has all digits of an integer up to here."""
_WORD = re.compile(r"[^\W\d_]+")
_LEAST_OF_A_PART, _TWO_EDITS_FROM = 5, 9
"""Letters of a name that is compared by parts or with errors of typing, and of one that may have two of
them."""
_MOST_ITEMS = 1_000
"""Rows of a response's list. Of more than ``MOST_ROWS`` only the owner is checked."""
_SIGNS: Mapping[str, str] = {"USD": "$", "EUR": "\u20ac", "GBP": "\u00a3"}
_WHOLE_CURRENCIES = frozenset({"JPY", "KRW"})
_JSON_TYPES: Mapping[str, Sequence[type]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "money": (str, int, float),
}
"""Types of JSON that a result's type may have; the types that are not here are texts."""


@dataclass(frozen=True, slots=True)
class ShownValue:
    """A value as an agent sees it."""

    text: str
    tone: Tone = "neutral"


REFUSED_LINK = ShownValue("")
"""Replaces an address that the connector's ``links`` do not allow; compared with ``is``."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of one response by the result's name. A value is None where the system has none."""

    single: Mapping[str, ShownValue | None]
    """Results outside the list."""
    rows: Sequence[Mapping[str, ShownValue | None]]
    """The first ``MOST_ROWS`` rows of its list."""
    row_count: int
    """Rows of the whole list."""
    as_of: datetime
    """When it was read."""
    size: int
    """Characters of all texts, with 50 more for each value."""


class _WrongResponseError(Exception):
    """Says how a response contradicts its connector, without any of the response's values."""


def _check_declared(field: ResultField, key: str) -> None:
    """Raise _WrongResponseError for a value without the declared pattern, or that is not among the declared
    values. ``key``: the value as text."""
    if field.pattern is not None and not matches_whole(field.pattern, key):
        raise _WrongResponseError(f"{field.name} has another form than its pattern")
    if field.values and key not in field.values:
        raise _WrongResponseError(f"{field.name} has a value that the connector does not know")


def _document(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a response.

    Raises _WrongResponseError, also for an object with the same key twice: of two customers the parser would
    choose one.
    """
    try:
        document: Any = orjson.loads(body)
        json.loads(body, object_pairs_hook=_once, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise _WrongResponseError("the response is not JSON") from None
    if not isinstance(document, dict):
        raise _WrongResponseError("it is no JSON object")
    return cast("dict[str, Any]", document)


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Raises _WrongResponseError for a key that an object has twice."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise _WrongResponseError("an object has the same key twice")


@dataclass(frozen=True, slots=True)
class ResponseReader:
    """Reads the responses of one operation.

    ``asked``: values of the request's parameters by name. ``context``: of the question; without one no id is
    compared with it.
    """

    connector: Connector
    operation: Operation
    _: KW_ONLY
    asked: Mapping[str, str]
    context: CareContext | None

    def read(self, body: bytes, *, as_of: datetime) -> Reading:
        """Return the values of a response.

        Raises LiveReadError: SYSTEM_INVALID for a response that breaks the schema or has another id than the
        one asked for, NOT_ALLOWED where it belongs to a customer that the context does not name.
        """
        by_row: dict[int, dict[str, ShownValue | None]] = defaultdict(dict)
        row_count = 0
        try:
            for row, field, value in self._raw_values(body):
                row_count = max(row, row_count)
                if row <= MOST_ROWS:
                    by_row[row][field.name] = self._value(field, value)
                elif field.proves_whose:
                    # A row of another customer refuses them all, also where it is not shown.
                    self._value(field, value)
        except _WrongResponseError as wrong:
            message = f"{self.connector.source} gave a response that cannot be used: {wrong}."
            raise LiveReadError(ElementProblem.SYSTEM_INVALID, message) from None
        single, rows = by_row.pop(0, {}), list(by_row.values())
        values = [value for row in (single, *rows) for value in row.values() if value is not None]
        return Reading(single, rows, row_count, as_of, sum(len(value.text) + 50 for value in values))

    def problems(self, body: bytes) -> Sequence[str]:
        """Return all contradictions between a response and its connector, without any value of the response.

        For ``assistant live test``: each result is checked by itself, so that an author sees them all.
        """
        messages: list[str] = []
        try:
            for _, field, value in self._raw_values(body):
                messages += self._problems_of(field, value)
        except _WrongResponseError as wrong:
            messages.append(str(wrong))
        return list(dict.fromkeys(messages))

    def _raw_values(self, body: bytes) -> Iterator[tuple[int, ResultField, Any]]:
        """Yield row, result and value of JSON: rows count from 1, 0 is outside the list; None: absent or
        null."""
        document = _document(body)
        for result in self.operation.results:
            if result.rows is None:
                yield 0, result, _walk(document, result.steps)
        yield from self._listed(document)

    def _listed(self, document: Any) -> Iterator[tuple[int, ResultField, Any]]:
        """Yield row, result and value of the list, if the operation has one."""
        listed = [(result, result.rows) for result in self.operation.results if result.rows is not None]
        if not listed:
            return
        path = listed[0][1]  # a connector may name one list
        items = _walk(document, path)
        if items is None and not any(result.required for result, _ in listed):
            return
        if not isinstance(items, list):
            raise _WrongResponseError(f"{'.'.join(path)} is no list")
        if len(cast("list[Any]", items)) > _MOST_ITEMS:
            raise _WrongResponseError(f"its list is longer than {_MOST_ITEMS}")
        for row, item in enumerate(cast("list[Any]", items), start=1):
            for result, _ in listed:
                # of "orders.*.status", whose list is at "orders", what follows the list's mark
                yield row, result, _walk(item, result.steps[len(path) + 1 :])

    def _problems_of(self, field: ResultField, value: Any) -> Iterator[str]:
        try:
            shown = self._value(field, value)
        except _WrongResponseError as wrong:
            yield str(wrong)
        except LiveReadError as refused:
            yield f"{field.name}: {refused.message}"
        else:
            if shown is REFUSED_LINK:
                yield f"{field.name} leads to an address that links does not allow"

    def _value(self, field: ResultField, value: Any) -> ShownValue | None:
        """Return a value of JSON as it is shown; None for an absent one. Its owner is checked first.

        Raises _WrongResponseError, LiveReadError (NOT_ALLOWED).
        """
        if value is None:
            if field.required:
                raise _WrongResponseError(f"{field.name} is missing")
            return None
        self._check_whose(field, value)
        wrong = _WrongResponseError(f"{field.name} is no {field.type}")
        if type(value) not in _JSON_TYPES.get(field.type, (str,)):
            raise wrong
        try:
            text = _FORMATS[field.type](field, value, self.connector.time_zone)
        except (ValueError, ArithmeticError):  # also a day before year 1 in this time zone
            raise wrong from None
        key = str(value).lower() if field.type == "boolean" else str(value)
        _check_declared(field, key)
        text = field.values.get(key, text)
        if field.type == "url" and not is_allowed_link(text, self.connector.links):
            return REFUSED_LINK
        return ShownValue(text, field.tones.get(key, "neutral"))

    def _check_whose(self, field: ResultField, value: Any) -> None:
        """Raise if the result must be an id, and is not the one asked for or one of the context's.

        Raises _WrongResponseError, LiveReadError (NOT_ALLOWED).
        """
        owner = str(value) if type(value) in (str, int) else None
        if field.same_as is not None and (owner is None or owner != self.asked.get(field.same_as)):
            raise _WrongResponseError(f"{field.name} is not the one asked for")
        kind, context = field.same_as_context, self.context
        if kind is not None and context is not None and owner not in context_ids(context, kind):
            raise LiveReadError(
                ElementProblem.NOT_ALLOWED, "These are not data of this conversation's customer."
            )  # without a context the system decides


def _walk(value: Any, steps: Sequence[str]) -> Any:
    """Return the value at a path of keys; None where a key is absent or its parent is no object."""
    for step in steps:
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, Any]", value).get(step)
    return value


# --- values as text ---------------------------------------------------------------------------------------


def plain_text(text: str) -> str:
    """Return a text of a system on one line, without markup, addresses, control or invisible characters."""
    return " ".join(safe_markdown(text, allowed_urls=()).split())


def is_allowed_link(url: str, prefixes: Sequence[str]) -> bool:
    """Return whether an address begins with one of the connector's ``links``, without a step up from
    there."""
    path = url.partition("://")[2]
    return (
        len(url) <= 2_000
        and _ADDRESS.fullmatch(url) is not None
        and not _UP.search(path)
        and any(url.startswith(prefix) for prefix in prefixes)
    )


# Each takes the result, its value of JSON and the time zone, and raises ValueError for a value that does not
# fit.
def _text(field: ResultField, value: str, _zone: str) -> str:
    if len(value) > field.most_characters:
        raise ValueError
    shown = plain_text(value)
    if (not shown and value.strip() and field.required) or len(shown) > LONGEST_SHOWN:
        raise ValueError
    return shown


# 12500 is "12500", with a unit "12,500 kg"
def _integer(field: ResultField, value: int, _zone: str) -> str:
    if abs(value) > _LARGEST:
        raise ValueError
    return f"{value:,} {field.unit}" if field.unit else str(value)


def _number(field: ResultField, value: float, _zone: str) -> str:
    if not abs(value) <= _LARGEST:  # also NaN
        raise ValueError
    digits = "" if field.decimals is None else f".{field.decimals}"
    return f"{Decimal(str(value)):,{digits}f} {field.unit}".strip()


def _date(_field: ResultField, value: str, _zone: str) -> str:
    if not is_iso_date(value):
        raise ValueError
    return _day(date.fromisoformat(value))


def _datetime(_field: ResultField, value: str, zone: str) -> str:
    at = datetime.fromisoformat(value)
    if len(value) > 40 or at.tzinfo is None:
        raise ValueError
    local = at.astimezone(ZoneInfo(zone))
    return f"{_day(local)}, {local:%H:%M} {local.tzname()}"


def _money(field: ResultField, value: str | float, _zone: str) -> str:
    if not _AMOUNT.fullmatch(str(value)):
        raise ValueError
    amount, currency = Decimal(str(value)), field.currency or ""
    digits = 0 if currency in _WHOLE_CURRENCIES else 2
    sign, text = "-" if amount < 0 else "", f"{abs(amount):,.{digits}f}"
    return f"{sign}{_SIGNS[currency]}{text}" if currency in _SIGNS else f"{sign}{text} {currency}"


def _day(at: date) -> str:
    return f"{at:%b} {at.day}, {at.year}"


_FORMATS: Mapping[str, Callable[[ResultField, Any, str], str]] = {
    "text": _text,
    "url": lambda _field, value, _zone: value,
    "integer": _integer,
    "number": _number,
    "boolean": lambda _field, value, _zone: "Yes" if value else "No",
    "date": _date,
    "datetime": _datetime,
    "money": _money,
}
"""Type of a result = the function that returns its value as text."""


# --- one element of a reading -----------------------------------------------------------------------------


def element_data(element: ConnectorElement, *, operation: Operation, reading: Reading) -> ElementData | None:
    """Return what an element shows of a reading; None where the system has no value for it.

    ``operation``: the element's. Raises LiveReadError (SYSTEM_INVALID) for a link that leads elsewhere.
    """
    results = {result.name: result for result in operation.results}
    fields = [results[name] for name in element.fields]
    if element.kind is ElementKind.TABLE:
        return _table(element, fields, reading)
    values = _values(fields, reading.single)
    if element.link is None:
        return ElementData(values=values) if values else None
    target = reading.single[element.link]
    if target is None:
        return None
    if target is REFUSED_LINK:
        raise LiveReadError(
            ElementProblem.SYSTEM_INVALID, "The system's link leads to an address that is not allowed."
        )
    label = results[element.link].label or element.title
    return ElementData(
        values=values or (ElementValue(name=element.link, label=label, text=label),), url=target.text
    )


def _table(element: ConnectorElement, fields: Sequence[ResultField], reading: Reading) -> ElementData | None:
    if not reading.rows:
        return None
    columns = tuple(ElementValue(name=field.name, label=field.label, text="") for field in fields)
    rows: list[ElementRow] = []
    for row in reading.rows:
        title = row[element.row_title or ""]
        rows.append(ElementRow(title="" if title is None else title.text, values=_values(fields, row)))
    return ElementData(columns=columns, rows=tuple(rows))


def _values(
    fields: Sequence[ResultField], shown_values: Mapping[str, ShownValue | None]
) -> tuple[ElementValue, ...]:
    return tuple(
        ElementValue(name=field.name, label=field.label, text=value.text, tone=value.tone)
        for field in fields
        if (value := shown_values[field.name]) is not None
    )


# --- is it what the question names ------------------------------------------------------------------------


def names_another(names: Sequence[str], name: str) -> str | None:
    """Return the first name of a question that is not the name of what was read; None if all fit it.

    ``names``: the question's, folded, as ``LiveExamples.names`` returns them. ``name``: the response's. A
    misspelt name fits, and so does a part of the other: "statin" for "atorvastatin".
    """
    words = _WORD.findall(fold(name))
    for known_name in names:
        parts = [part for part in _WORD.findall(known_name) if len(part) >= _LEAST_OF_A_PART] or [known_name]
        if not any(_is_alike(part, word) for part in parts for word in words):
            return known_name
    return None


def _is_alike(asked: str, word: str) -> bool:
    """Return whether two words name the same: equal, one within the other, or with one or two typing errors
    after the same first letter."""
    if asked == word:
        return True
    if min(len(asked), len(word)) < _LEAST_OF_A_PART:
        return False
    edits = 2 if len(word) >= _TWO_EDITS_FROM else 1
    is_misspelt = asked[0] == word[0] and OSA.distance(asked, word, score_cutoff=edits) <= edits
    return asked in word or word in asked or is_misspelt
