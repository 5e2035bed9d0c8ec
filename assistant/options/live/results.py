"""A system's response, checked against its schema and its connector, and made ready to be shown.

The response is untrusted: what breaks the OpenAPI schema, or another person's id, refuses it whole, and texts
are neutralised as those of documents are.

    reader = ResponseReader(connector, operation, asked={"order_id": "4471-2208"}, context=context)
    reading = reader.read(b'{"status": "SHP", "due": "2026-11-24"}', as_of=now)
    reading.single    # {"status": ShownValue("Shipped", "good"), "due": ShownValue("Nov 24, 2026")}
    element_data(element, operation=operation, reading=reading)   # what one element shows of it
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

import jmespath
import orjson
from jmespath.exceptions import JMESPathError
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
from assistant.options.live.connector import MOST_ROWS, Connector, ConnectorElement, Operation, ResultField
from assistant.options.live.openapi import response_validator
from assistant.options.live.parameters import context_ids
from assistant.text.language import fold
from assistant.text.safe_markdown import safe_markdown

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError

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
_MOST_SAID = 5
"""Broken rules of the schema that an error names."""
_LONGEST_TEXT = 2_000
"""Characters of a text before markup and addresses are taken out of it."""
_SIGNS: Mapping[str, str] = {"USD": "$", "EUR": "\u20ac", "GBP": "\u00a3"}
_WHOLE_CURRENCIES = frozenset({"JPY", "KRW"})


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
        try:
            document = self._document(body)
            single = {field.name: self._value(field, document) for field in self._fields(None)}
            items, fields = self._listed(document)
            for item in items[MOST_ROWS:]:  # a row of another customer refuses them all, shown or not
                for field in fields:
                    if field.proves_whose:
                        self._value(field, item)
            rows = [{field.name: self._value(field, item) for field in fields} for item in items[:MOST_ROWS]]
        except _WrongResponseError as wrong:
            message = f"{self.connector.source} gave a response that cannot be used: {wrong}."
            raise LiveReadError(ElementProblem.SYSTEM_INVALID, message) from None
        values = [value for row in (single, *rows) for value in row.values() if value is not None]
        return Reading(single, rows, len(items), as_of, sum(len(value.text) + 50 for value in values))

    def _document(self, body: bytes) -> Any:
        """Return the JSON of a response.

        Raises _WrongResponseError for what breaks the OpenAPI file's schema, and for an object with the same
        key twice: of two customers the parser would choose one.
        """
        try:
            json.loads(body, object_pairs_hook=_once, parse_int=str, parse_float=str)
            document: Any = orjson.loads(body)
            errors = response_validator(self.operation.response).iter_errors(document)
            broken = "; ".join(map(_where, islice(errors, _MOST_SAID)))
        except (ValueError, RecursionError):
            raise _WrongResponseError("the response is not JSON") from None
        if broken:
            raise _WrongResponseError(broken)
        return document

    def _fields(self, rows: str | None) -> list[ResultField]:
        """Return the results of a list, or those outside it."""
        return [field for field in self.operation.results if field.rows == rows]

    def _listed(self, document: Any) -> tuple[Sequence[Any], Sequence[ResultField]]:
        """Return the rows of the operation's list, if it has one, and its results."""
        rows = next((field.rows for field in self.operation.results if field.rows is not None), None)
        items = None if rows is None else _search(rows, document)
        if items is None:
            return (), ()
        if not isinstance(items, list):
            raise _WrongResponseError(f"{rows} is no list")
        listed = cast("list[Any]", items)
        if len(listed) > _MOST_ITEMS:
            raise _WrongResponseError(f"its list is longer than {_MOST_ITEMS}")
        return listed, self._fields(rows)

    def _value(self, field: ResultField, around: Any) -> ShownValue | None:
        """Return a result as it is shown; None where the response has none. Its owner is checked first.

        ``around``: the response, or a row of its list. Raises _WrongResponseError, LiveReadError
        (NOT_ALLOWED).
        """
        value = _search(field.value, around)
        if field.proves_whose:
            self._check_whose(field, value)
        if value is None:
            return None
        key = str(value).lower() if isinstance(value, bool) else str(value)
        if field.values and key not in field.values:
            raise _WrongResponseError(f"{field.name} has a value that the connector does not know")
        try:
            text = field.values.get(key) or _shown(field, value, self.connector.time_zone)
        except (TypeError, ValueError, ArithmeticError):  # also a day before year 1 in this time zone
            as_what = field.format or (field.currency and "amount of money") or "single value to show"
            raise _WrongResponseError(f"{field.name} is no {as_what}") from None
        if field.format == "uri" and not is_allowed_link(text, self.connector.links):
            return REFUSED_LINK
        return ShownValue(text, field.tones.get(key, "neutral"))

    def _check_whose(self, field: ResultField, value: Any) -> None:
        """Raise if the result must be an id, and is not the one asked for or one of the context's.

        Raises _WrongResponseError, LiveReadError (NOT_ALLOWED).
        """
        owner = str(value) if type(value) in (str, int) else None
        if owner is None:
            raise _WrongResponseError(f"{field.name} is missing, or no id")
        if field.same_as is not None and owner != self.asked.get(field.same_as):
            raise _WrongResponseError(f"{field.name} is not the one asked for")
        kind, context = field.same_as_context, self.context
        if kind is not None and context is not None and owner not in context_ids(context, kind):
            raise LiveReadError(
                ElementProblem.NOT_ALLOWED, "These are not data of this conversation's customer."
            )  # without a context the system decides


def _where(error: ValidationError) -> str:
    """Return which rule of the schema a response breaks, by the schema's own names and without a value of the
    response: "Order.status breaks the OpenAPI file's enum"."""
    *steps, rule = map(str, error.schema_path)
    named = (name for before, name in pairwise(steps) if before in ("definitions", "properties"))
    names = [name.rpartition(".")[2] for name in named]  # "Order" of "components.schemas.Order"
    if rule == "required":
        names.append(str(getattr(error.kind, "property", "")))
    return f"{'.'.join(names) or 'it'} breaks the OpenAPI file's {rule}"


def _search(expression: str, around: Any) -> Any:
    """Return the value of a JMESPath expression; None without one. Raises _WrongResponseError."""
    try:
        return jmespath.search(expression, around)
    except JMESPathError:
        raise _WrongResponseError(f"{expression} cannot be read of it") from None


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


def _shown(field: ResultField, value: Any, zone: str) -> str:
    """Return a value of JSON as text. Raises ValueError or TypeError for one that cannot be shown."""
    if field.currency is not None:
        return _money(field.currency, str(value))
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if isinstance(value, int | float):
        return _number(value, field.unit)
    if not isinstance(value, str):
        raise TypeError
    return _text(field.format, value, zone)


def _text(format_: str | None, value: str, zone: str) -> str:
    """Return a text as its result's ``format`` says. Raises ValueError."""
    match format_:
        case "uri":
            return value
        case "date":
            return _day(date.fromisoformat(value))
        case "date-time":
            local = _time(value).astimezone(ZoneInfo(zone))
            return f"{_day(local)}, {local:%H:%M} {local.tzname()}"
        case _:
            shown = plain_text(value[: _LONGEST_TEXT + 1])
            if (not shown and value.strip()) or len(shown) > LONGEST_SHOWN or len(value) > _LONGEST_TEXT:
                raise ValueError
            return shown


def _time(value: str) -> datetime:
    """Return a time of a day and a place. Raises ValueError, also for one without its offset."""
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError
    return at


def _number(value: float, unit: str) -> str:
    """Return a number, with its unit: 12500 is "12500", with a unit "12,500 kg"."""
    if not abs(value) <= _LARGEST:  # also NaN
        raise ValueError
    if isinstance(value, int) and not unit:
        return str(value)
    return f"{Decimal(str(value)):,f} {unit}".strip()


def _money(currency: str, amount_text: str) -> str:
    """Return "$1,200.50" for "1200.5" of USD, "500 JPY" for "500" of JPY. Raises ValueError."""
    if not _AMOUNT.fullmatch(amount_text):
        raise ValueError
    amount = Decimal(amount_text)
    digits = 0 if currency in _WHOLE_CURRENCIES else 2
    sign, text = "-" if amount < 0 else "", f"{abs(amount):,.{digits}f}"
    return f"{sign}{_SIGNS[currency]}{text}" if currency in _SIGNS else f"{sign}{text} {currency}"


def _day(at: date) -> str:
    return f"{at:%b} {at.day}, {at.year}"


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
