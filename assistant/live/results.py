"""A system's response, checked against its connector and made ready to be shown.

The response is untrusted: another type, a missing value or another person's id refuses it whole, and texts
are neutralised as those of documents are.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, cast
from zoneinfo import ZoneInfo

import orjson
from rapidfuzz.distance import OSA

from assistant.domain.elements import (
    LONGEST_SHOWN,
    ElementData,
    ElementKind,
    ElementProblem,
    ElementRow,
    ElementValue,
    Tone,
)
from assistant.domain.live import CareContext
from assistant.live.parameters import context_ids
from assistant.live.ports import LiveReadError
from assistant.settings.connector import (
    EACH,
    MOST_ROWS,
    Connector,
    ConnectorElement,
    Operation,
    ResultField,
    matches_whole,
)
from assistant.text.language import fold
from assistant.text.safe_markdown import safe_markdown

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_AMOUNT = re.compile(r"-?\d{1,12}(\.\d{1,6})?", re.ASCII)
_ADDRESS = re.compile(r"https://[A-Za-z0-9.-]+(?::\d{1,5})?/[A-Za-z0-9._~%!$&'()*+,;=:@/?#-]*")
_UP = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$|[?#])", re.IGNORECASE)
_LARGEST = 10**15
_WORD = re.compile(r"[^\W\d_]+")
_LEAST_OF_A_PART, _TWO_EDITS_FROM = 5, 9
_MOST_ITEMS = 1_000
_SIGNS: Mapping[str, str] = {"USD": "$", "EUR": "\u20ac", "GBP": "\u00a3"}
_WHOLE_CURRENCIES = frozenset({"JPY", "KRW"})
_YES_NO: Mapping[str, str] = {"true": "Yes", "false": "No"}


@dataclass(frozen=True, slots=True)
class ShownValue:
    text: str
    tone: Tone = "neutral"


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of one response, by result. None: the system has none."""

    single: Mapping[str, ShownValue | None]
    rows: Sequence[Mapping[str, ShownValue | None]]
    """The first rows of its list."""
    row_count: int
    as_of: datetime
    size: int = field(default=0, compare=False)
    """Characters of all texts, about."""


class _WrongResponseError(Exception):
    """What of the response breaks the connector; without any of its values."""


def read_response(
    body: bytes,
    *,
    connector: Connector,
    operation: Operation,
    asked: Mapping[str, str],
    context: CareContext | None,
    as_of: datetime,
) -> Reading:
    """Return the values of a response.

    Raises LiveReadError: SYSTEM_INVALID for a response that breaks the schema or has another id than the one
    asked for, NOT_ALLOWED where it belongs to a customer that the context does not name.
    """
    try:
        document = _document(body)
        reading = _Reader(connector, operation, asked, context).read(document, as_of=as_of)
    except _WrongResponseError as wrong:
        raise _invalid(connector, str(wrong)) from None
    return reading


def problems_of(
    body: bytes,
    *,
    connector: Connector,
    operation: Operation,
    asked: Mapping[str, str],
    context: CareContext | None,
) -> Sequence[str]:
    """Return what of a response breaks the connector, every result on its own; for who writes a connector."""
    try:
        document = _document(body)
    except _WrongResponseError as wrong:
        return [str(wrong)]
    return list(_Reader(connector, operation, asked, context).problems(document))


def _document(body: bytes) -> Any:
    """Return the JSON of a response. Raises _WrongResponseError, also where an object has a key twice: which
    of two customers counts would be the parser's choice."""
    try:
        document: Any = orjson.loads(body)
        json.loads(body, object_pairs_hook=_once, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise _WrongResponseError("the response is not JSON") from None
    return document


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Raises _WrongResponseError for a key that an object has twice."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise _WrongResponseError("an object has the same key twice")


def _invalid(connector: Connector, why: str) -> LiveReadError:
    return LiveReadError(
        ElementProblem.SYSTEM_INVALID, f"{connector.source} gave a response that cannot be used: {why}."
    )


class _Reader:
    def __init__(
        self,
        connector: Connector,
        operation: Operation,
        asked: Mapping[str, str],
        context: CareContext | None,
    ) -> None:
        self._connector = connector
        self._zone = ZoneInfo(connector.time_zone)
        self._operation = operation
        self._asked = asked
        self._context = context

    def read(self, document: Any, *, as_of: datetime) -> Reading:
        if not isinstance(document, dict):
            raise _WrongResponseError("it is no JSON object")
        results = self._operation.results
        single = {
            each.name: self._value(each, _walk(document, each.steps)) for each in results if each.rows is None
        }
        listed = [each for each in results if each.rows is not None]
        proving = [each for each in listed if each.proves_whose]
        rows: list[Mapping[str, ShownValue | None]] = []
        count = 0
        for count, item in enumerate(self._items(document, listed), start=1):
            if count <= MOST_ROWS:
                rows.append({each.name: self._value(each, _walk(item, _below(each))) for each in listed})
                continue
            for each in proving:  # one row of another customer refuses them all, also where it is not shown
                self._value(each, _walk(item, _below(each)))
        values = (value for each in (single, *rows) for value in each.values() if value is not None)
        return Reading(single, rows, count, as_of, size=sum(len(value.text) + 50 for value in values))

    def problems(self, document: Any) -> Iterator[str]:
        """Yield what breaks the connector, without any value of the response."""
        if not isinstance(document, dict):
            yield "it is no JSON object"
            return
        listed = [each for each in self._operation.results if each.rows is not None]
        rows: list[Any] = []
        try:
            rows = list(self._items(document, listed))
        except _WrongResponseError as wrong:
            yield str(wrong)
        found = [
            (each, [_walk(document, each.steps)]) for each in self._operation.results if each.rows is None
        ]
        found += [(each, [_walk(row, _below(each)) for row in rows]) for each in listed]
        for each, values in found:
            yield from dict.fromkeys(said for value in values for said in self._said_of(each, value))

    def _said_of(self, field: ResultField, value: Any) -> Iterator[str]:
        try:
            shown = self._value(field, value)
        except _WrongResponseError as wrong:
            yield str(wrong)
        except LiveReadError as refused:
            yield f"{field.name}: {refused.message}"
        else:
            if field.type == "url" and shown is not None and not shown.text:
                yield f"{field.name} leads to an address that links does not allow"

    def _items(self, document: Any, listed: Sequence[ResultField]) -> Iterator[Any]:
        if not listed:
            return
        found = _walk(document, listed[0].rows or ())
        if found is None and not any(each.required for each in listed):
            return
        if not isinstance(found, list):
            raise _WrongResponseError(f"{'.'.join(listed[0].rows or ())} is no list")
        if len(items := cast("list[Any]", found)) > _MOST_ITEMS:
            raise _WrongResponseError(f"its list is longer than {_MOST_ITEMS}")
        yield from items

    def _value(self, field: ResultField, value: Any) -> ShownValue | None:
        if value is None:
            if field.required:
                raise _WrongResponseError(f"{field.name} is missing")
            return None
        self._check_whose(field, value)
        try:
            key, text = _FORMATS[field.type](field, value, self._zone)
        except (TypeError, ValueError, ArithmeticError):  # also a day before year 1 in this time zone
            raise _WrongResponseError(f"{field.name} is no {field.type}") from None
        if field.pattern is not None and not matches_whole(field.pattern, key):
            raise _WrongResponseError(f"{field.name} has another form than its pattern")
        if field.values:
            if key not in field.values:
                raise _WrongResponseError(f"{field.name} has a value that the connector does not know")
            text = field.values[key]
        if field.type == "url" and not is_allowed_link(text, self._connector.links):
            return ShownValue("")
        return ShownValue(text, field.tones.get(key, "neutral"))

    def _check_whose(self, field: ResultField, value: Any) -> None:
        """Raise unless an id of the response is the one asked for, or one of the context."""
        if not field.proves_whose:
            return
        said = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
        if field.same_as is not None and (said is None or said != self._asked.get(field.same_as)):
            raise _WrongResponseError(f"{field.name} is not the one asked for")
        kind = field.same_as_context
        if kind is None or self._context is None:  # without a context the system decides
            return
        if said not in context_ids(self._context, kind):
            raise LiveReadError(
                ElementProblem.NOT_ALLOWED, "These are not data of this conversation's customer."
            )


def _walk(value: Any, steps: Sequence[str]) -> Any:
    """Return what is at the path; None where it ends before."""
    for step in steps:
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, Any]", value).get(step)
    return value


def _below(field: ResultField) -> Sequence[str]:
    """Return the path of a result inside its row."""
    return field.steps[field.steps.index(EACH) + 1 :]


# --- values as text ---------------------------------------------------------------------------------------


def plain_text(text: str) -> str:
    """Return a text of a system on one line, without markup, addresses, control or invisible characters."""
    return " ".join(safe_markdown(text, allowed_urls=()).split())


def is_allowed_link(url: str, prefixes: Sequence[str]) -> bool:
    """Return whether an address begins as one of the connector's, without a way up from there."""
    path = url.partition("://")[2]
    return (
        len(url) <= 2_000
        and _ADDRESS.fullmatch(url) is not None
        and not _UP.search(path)
        and any(url.startswith(prefix) for prefix in prefixes)
    )


def _text(field: ResultField, value: Any, _zone: ZoneInfo) -> tuple[str, str]:
    if not isinstance(value, str) or len(value) > field.most_characters:
        raise ValueError
    shown = plain_text(value)
    if (not shown and value.strip() and field.required) or len(shown) > LONGEST_SHOWN:
        raise ValueError
    return value, shown


def _url(_field: ResultField, value: Any, _zone: ZoneInfo) -> tuple[str, str]:
    if not isinstance(value, str):
        raise TypeError
    return value, value


def _integer(field: ResultField, value: Any, _zone: ZoneInfo) -> tuple[str, str]:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST:
        raise ValueError
    return str(value), f"{value:,} {field.unit}" if field.unit else str(value)


def _number(field: ResultField, value: Any, _zone: ZoneInfo) -> tuple[str, str]:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError
    if abs(value) > _LARGEST:
        raise ValueError
    exact = Decimal(str(value))
    text = f"{exact:,f}" if field.decimals is None else f"{exact:,.{field.decimals}f}"
    return str(value), f"{text} {field.unit}".strip()


def _boolean(_field: ResultField, value: Any, _zone: ZoneInfo) -> tuple[str, str]:
    if not isinstance(value, bool):
        raise TypeError
    key = "true" if value else "false"
    return key, _YES_NO[key]


def _date(_field: ResultField, value: Any, _zone: ZoneInfo) -> tuple[str, str]:
    if not isinstance(value, str) or not _ISO_DATE.fullmatch(value):
        raise ValueError
    return value, _day(date.fromisoformat(value))


def _datetime(_field: ResultField, value: Any, zone: ZoneInfo) -> tuple[str, str]:
    if not isinstance(value, str) or len(value) > 40:
        raise ValueError
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError
    local = at.astimezone(zone)
    return value, f"{_day(local)}, {local:%H:%M} {local.tzname()}"


def _money(field: ResultField, value: Any, _zone: ZoneInfo) -> tuple[str, str]:
    said = value if isinstance(value, str) else str(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not _AMOUNT.fullmatch(said):
        raise ValueError
    currency = field.currency or ""
    digits = 0 if currency in _WHOLE_CURRENCIES else 2
    amount = Decimal(said)
    sign, text = "-" if amount < 0 else "", f"{abs(amount):,.{digits}f}"
    return said, f"{sign}{_SIGNS[currency]}{text}" if currency in _SIGNS else f"{sign}{text} {currency}"


def _day(at: date) -> str:
    return f"{at:%b} {at.day}, {at.year}"


_FORMATS: Mapping[str, Callable[[ResultField, Any, ZoneInfo], tuple[str, str]]] = {
    "text": _text,
    "url": _url,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "money": _money,
}
"""Type = what returns the value as key of ``values``, and as text. They raise TypeError or ValueError."""


# --- one element of a reading -----------------------------------------------------------------------------


def element_data(element: ConnectorElement, *, operation: Operation, reading: Reading) -> ElementData | None:
    """Return what an element shows of a reading; None where the system has nothing for it.

    Raises LiveReadError (SYSTEM_INVALID) for a link that leads elsewhere.
    """
    results = {each.name: each for each in operation.results}
    fields = [results[name] for name in element.fields]
    if element.kind is ElementKind.TABLE:
        return _table(element, fields, reading)
    values = tuple(_shown(each, value) for each in fields if (value := reading.single[each.name]) is not None)
    if element.link is None:
        return ElementData(values=values) if values else None
    target = reading.single[element.link]
    if target is None:
        return None
    if not target.text:
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
    columns = tuple(ElementValue(name=each.name, label=each.label, text="") for each in fields)
    rows: list[ElementRow] = []
    for row in reading.rows:
        title = row[element.row_title or ""]
        values = tuple(_shown(each, value) for each in fields if (value := row[each.name]) is not None)
        rows.append(ElementRow(title="" if title is None else title.text, values=values))
    return ElementData(columns=columns, rows=tuple(rows))


def _shown(field: ResultField, value: ShownValue) -> ElementValue:
    return ElementValue(name=field.name, label=field.label, text=value.text, tone=value.tone)


# --- is it what the question names ------------------------------------------------------------------------


def name_of(operation: Operation, reading: Reading) -> str | None:
    """Return the name of what was read; None where the connector has none, or the system gave none."""
    named = next((each.name for each in operation.results if each.names), None)
    shown = reading.single.get(named) if named is not None else None
    return shown.text if shown is not None and shown.text else None


def names_another(names: Sequence[str], name: str) -> str | None:
    """Return the first name of a question that is not of a thing with this name; None where all are.

    A misspelt name is the same, and so is one that is a part of the other: "statin" of "atorvastatin".
    """
    words = _WORD.findall(fold(name))
    return next((each for each in names if not _is_named(each, words)), None)


def _is_named(name: str, words: Sequence[str]) -> bool:
    asked = [word for word in _WORD.findall(name) if len(word) >= _LEAST_OF_A_PART] or [name]
    return any(_is_alike(one, word) for one in asked for word in words)


def _is_alike(asked: str, word: str) -> bool:
    if asked == word:
        return True
    if min(len(asked), len(word)) < _LEAST_OF_A_PART:
        return False
    edits = 2 if len(word) >= _TWO_EDITS_FROM else 1
    is_misspelt = asked[0] == word[0] and OSA.distance(asked, word, score_cutoff=edits) <= edits
    return asked in word or word in asked or is_misspelt
