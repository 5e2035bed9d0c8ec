"""The connector file: the requests that one internal system may get, and what is shown of its responses.

``live.md`` has a complete example. Everything is a GET; nothing here can change a system. ``[[operations]]``
are requests with ``parameters`` and ``results``; ``[[elements]]`` choose results and have the names that
documents and models use. ``openapi.py`` fills in what an OpenAPI file says, ``section.py`` compares a
connector with the ``[[reach]]`` entry that names it.

Functions that yield strings yield what is wrong, as sentences for the file's author. Only the
first is shown, so each check may rely on those before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator
from pydantic_core import SchemaError

from assistant.domain.identity import Role, SubjectKind
from assistant.domain.live import ElementKind, Tone
from assistant.options.live.openapi import with_openapi
from assistant.tenant.toml_file import StrictModel, read_strict

EACH = "*"
"""Step of a result's path that goes through a list: ``orders.*.status``."""
MOST_ROWS = 50
"""Rows of a list that are shown."""
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
"""A parameter in a path: ``{order_id}``."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
ParameterName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Label = Annotated[str, StringConstraints(strip_whitespace=True, max_length=100)]
RequestPath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9/{}._~-]{0,300}$")]
QueryValue = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{0,200}$")]
LinkPrefix = Annotated[
    str, StringConstraints(pattern=r"^https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?/[A-Za-z0-9/._~-]*$")
]


# Patterns of values: bounded regular expressions of Rust's engine


_ESCAPED_OR_CLASS = re.compile(r"\\.|\[\^?\]?[^\]]*\]")
"""One escaped character or one class: ``\\d``, ``[^a-z]``. Each counts as one character of a plain text."""
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_CLASS_OPERATION = re.compile(r"(?<!\\)\[[^\]]*(\[|&&|--|~~|\|\|)")
"""A class with what Rust's engine reads as an operation on sets and ``re`` as characters: ``[a-z&&b]``."""
_ASCII_CLASSES: Mapping[str, str] = {
    "d": "[0-9]",
    "D": "[^0-9]",
    "w": "[0-9A-Za-z_]",
    "W": "[^0-9A-Za-z_]",
    "s": r"[ \t\n\r\f\v]",
    "S": r"[^ \t\n\r\f\v]",
}
"""Escaped letter = its class of ASCII: in Rust's engine ``\\d`` alone is any digit of Unicode."""
_UNBOUNDED = re.compile(r"[*+]|\{\d*,\}|\)[?{]|\(\?")
"""What may match texts of any length, or has another meaning in Rust's engine: ``a*``, ``a{3,}``, ``(ab)?``,
``(?=…)``. Searched for where escaped characters and classes are replaced by a letter."""
_BACK_REFERENCE = re.compile(r"\\[1-9]")
_LONGEST_REPEAT = 64
"""Largest count of a pattern: ``\\d{64}``."""


@lru_cache(maxsize=4_096)
def _compiled(pattern: str) -> TypeAdapter[str]:
    """Return a validator that accepts the texts that a pattern matches whole.

    Rust's engine, which pydantic has: its time is linear in the text for every pattern. ``re`` tries each way
    through ``(a|a)(a|a)…`` or ``a?a?…`` in turn, which blocks the event loop for seconds on one word.
    """
    ascii_only = _ESCAPED.sub(lambda match: _ASCII_CLASSES.get(match[1], match[0]), pattern)
    constraint = StringConstraints(pattern=f"^(?:{ascii_only})$")
    return TypeAdapter(Annotated[str, constraint], config=ConfigDict(regex_engine="rust-regex"))


def matches_whole(pattern: str, text: str) -> bool:
    r"""Return whether a connector's pattern matches a whole text. ``\d``, ``\w`` and ``\s`` are of ASCII."""
    return _compiled(pattern).validator.isinstance_python(text)


def _checked_pattern(pattern: str) -> str:
    r"""Return the pattern. Raises ValueError for what is no pattern ("("), means something else in Rust's
    engine (``[a&&b]``), has no bound (``\d+``), or has a count over ``_LONGEST_REPEAT``."""
    if _CLASS_OPERATION.search(pattern):
        raise ValueError(r"a class has [, &&, --, ~~ or ||; write \[ for a bracket")
    try:
        re.compile(pattern)  # so that no pattern ends the group around it
        _compiled(pattern)
    except (re.error, SchemaError) as error:
        raise ValueError(f"not a regular expression: {str(error).splitlines()[-1]}") from None
    plain = _ESCAPED_OR_CLASS.sub("x", pattern)
    if _UNBOUNDED.search(plain) or _BACK_REFERENCE.search(pattern):
        raise ValueError(
            "a pattern has no *, no +, no open count like {3,}, no repeated group and no look-around; "
            r"write counts: \d{4}-\d{4}"
        )
    if any(int(count) > _LONGEST_REPEAT for count in re.findall(r"\d+(?=\})", plain)):
        raise ValueError(f"a count is over {_LONGEST_REPEAT}")
    return pattern


ValuePattern = Annotated[str, StringConstraints(max_length=200), AfterValidator(_checked_pattern)]


# The file


def _checked_time_zone(name: str) -> str:
    """Return the name. Raises ValueError for one that is no IANA time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        if available_timezones():  # functions read the file too, and their runtime may have no zones
            raise ValueError('no IANA time zone, like "America/New_York"') from None
    return name


class OperationParameter(StrictModel):
    """One value of a request: from the context, else from words of the question."""

    name: ParameterName
    """In the path where the operation's ``path`` has it in braces, else in the query."""
    type: Literal["text", "integer", "date"] = "text"
    pattern: ValuePattern | None = None
    """Regular expression that a whole value must match."""
    check: Literal["none", "npi", "dea", "luhn"] = "none"
    """Check digit; a word with a wrong one is not taken for a value."""
    context: SubjectKind | None = None
    """Kind of id of the context that it is taken from."""
    question: bool = True
    """Whether words of the question are tried as values."""
    label: Label = ""
    """Shown before the value; ``words`` when empty."""
    words: Words
    """What to ask for: "order number"."""
    required: bool = True

    @model_validator(mode="after")
    def _comes_from_somewhere(self) -> Self:
        if self.question and self.pattern is None and self.check == "none" and self.type != "date":
            raise ValueError(
                f'parameter "{self.name}": a value in a question is found by its pattern; write pattern or '
                "check, or question = false"
            )
        if not self.question and self.context is None:
            raise ValueError(f'parameter "{self.name}": without context and question it has no value')
        return self

    @property
    def shown_as(self) -> str:
        return self.label or self.words


class ResultField(StrictModel):
    """One value of a response."""

    name: Name
    path: str = Field(
        default="", pattern=r"^([A-Za-z0-9_@$-]+|\*)(\.([A-Za-z0-9_@$-]+|\*))*$|^$", max_length=200
    )
    """Keys with dots; ``*`` goes through a list, once. By default the name."""
    type: Literal["text", "integer", "number", "boolean", "date", "datetime", "money", "url"] = "text"
    label: Label = ""
    required: bool = True
    """If it is missing or null, the whole response is refused."""
    shown: bool = True
    """False: checked, never shown."""
    values: Annotated[Mapping[str, Words], Field(max_length=100)] = {}
    """Every allowed value = its words; empty allows any value."""
    tones: Annotated[Mapping[str, Tone], Field(max_length=100)] = {}
    """Value = the tone in which it is shown; the keys are among those of ``values``."""
    pattern: ValuePattern | None = None
    most_characters: int = Field(default=200, ge=1, le=500)
    decimals: int | None = Field(default=None, ge=0, le=6)
    unit: Label = ""
    currency: str | None = Field(default=None, pattern=r"^[A-Z]{3}$")
    same_as: ParameterName | None = None
    """Parameter whose value it must equal, or the whole response is refused."""
    same_as_context: SubjectKind | None = None
    """It must be one of the context's ids of this kind, or the whole response is refused."""
    names: Annotated[tuple[Words, ...], Field(max_length=20)] = ()
    """Not empty: the value is the name of the thing that is read, such as "metformin". The words tell which
    glossary entries are such names: those whose meaning has one of them, as "medicine"."""

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if self.steps.count(EACH) > 1:
            raise ValueError(f'result "{self.name}": path goes through one list at most, so it has one *')
        if unknown := sorted(self.tones.keys() - self.values.keys()):
            raise ValueError(
                f'result "{self.name}": tones has "{unknown[0]}", which is none of its values: '
                f"{', '.join(self.values) or 'write values first'}"
            )
        if self.names and (self.type != "text" or self.rows is not None):
            raise ValueError(f'result "{self.name}": names is for one text, not for a list or another type')
        if self.type == "money" and self.currency is None:
            raise ValueError(f'result "{self.name}": type = "money" needs currency, like "USD"')
        return self

    @property
    def steps(self) -> tuple[str, ...]:
        """The path in parts: ("orders", "*", "status")."""
        return tuple((self.path or self.name).split("."))

    @property
    def rows(self) -> tuple[str, ...] | None:
        """The path of the list that it is in, such as ("orders",); None outside a list."""
        return self.steps[: self.steps.index(EACH)] if EACH in self.steps else None

    @property
    def proves_whose(self) -> bool:
        """Whether it is compared, so that it proves whose data the response has."""
        return self.same_as is not None or self.same_as_context is not None


class Operation(StrictModel):
    """One GET request of the system."""

    name: Name
    operation_id: str | None = Field(default=None, max_length=100)
    """``operationId`` in the OpenAPI file, which then gives path and types."""
    path: RequestPath
    query: Annotated[Mapping[ParameterName, QueryValue], Field(max_length=20)] = {}
    """Fixed values of the query by name."""
    personal: bool
    """About a person: whose it is must be proven, and nothing is cached."""
    roles: Annotated[tuple[Role, ...], Field(min_length=1)] = (Role.AGENT,)
    """Roles of callers; one is enough."""
    labels: Annotated[tuple[str, ...], Field(max_length=20)] = ()
    """Access labels of the caller's token that are all needed."""
    cache_s: int = Field(default=0, ge=0, le=300)
    most_bytes: int = Field(default=65_536, ge=256, le=1_048_576)
    deadline_s: float | None = Field(default=None, gt=0.0, le=10.0)
    """At most the ``deadline_s`` of the ``[[reach]]`` entry, which is the default."""
    parameters: Annotated[tuple[OperationParameter, ...], Field(max_length=8)] = ()
    results: Annotated[tuple[ResultField, ...], Field(min_length=1, max_length=60)]

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        wrong = next(self._wrong(), None)
        if wrong is not None:
            raise ValueError(f'operation "{self.name}": {wrong}')
        return self

    def _wrong(self) -> Iterator[str]:
        """Yield what contradicts itself in the operation."""
        yield from _doubled(parameters=self.parameters, results=self.results)
        yield from self._wrong_parameters({parameter.name: parameter for parameter in self.parameters})
        if self.cache_s and self.personal:
            yield "personal = true, and results of a person are not cached; delete cache_s"
        if self.cache_s and any(result.same_as_context for result in self.results):
            yield "cache_s with same_as_context: a kept response would not be compared; delete one of them"
        if self.personal:
            yield from unproven(self, [result for result in self.results if result.proves_whose])
        lists = {result.rows for result in self.results if result.rows is not None}
        if len(lists) > 1:
            yield "results go through two lists; one operation shows the rows of one"

    def _wrong_parameters(self, parameters: Mapping[str, OperationParameter]) -> Iterator[str]:
        for placeholder in self.placeholders:
            if placeholder not in parameters or not parameters[placeholder].required:
                yield f"path has {{{placeholder}}}, which is no required parameter"
        if taken := parameters.keys() & self.query.keys():
            yield f"query has the parameter {sorted(taken)[0]}; fixed values are no parameters"
        for result in self.results:
            if result.same_as is not None and result.same_as not in parameters:
                names = ", ".join(parameters)
                yield f'result "{result.name}": same_as = "{result.same_as}" is none of {names}'

    @property
    def placeholders(self) -> tuple[str, ...]:
        return tuple(_PLACEHOLDER.findall(self.path))


def unproven(operation: Operation, proofs: Sequence[ResultField]) -> Iterator[str]:
    """Yield how a personal operation could show data of another person.

    ``proofs``: its results that are compared with an id of the asked person. One of them must be required,
    and outside the list if anything outside the list is shown.
    """
    required = [result for result in proofs if result.required]
    if not required:
        yield (
            "personal = true needs a required result with same_as or same_as_context: without it another "
            "person's data would be shown"
        )
        return
    shown_outside = [result.name for result in operation.results if result.rows is None and result.shown]
    if shown_outside and all(result.rows is not None for result in required):
        yield (
            f'result "{shown_outside[0]}" is outside the list whose rows say whose data it is, and an empty '
            "list says nothing. Add a required result with same_as or same_as_context outside the list, or "
            f'read "{shown_outside[0]}" by another operation'
        )


class ConnectorElement(StrictModel):
    """One element that documents and models may name: ``orders.status`` for the system "orders"."""

    name: Name
    kind: ElementKind
    title: Words
    operation: Name
    fields: Annotated[tuple[Name, ...], Field(min_length=1, max_length=20)]
    """Results, in order."""
    row_title: Name | None = None
    """For a table: the result that names each row."""
    link: Name | None = None
    """For a link: a result of type ``url``."""
    about: Annotated[tuple[Annotated[str, StringConstraints(max_length=200)], ...], Field(max_length=20)] = ()
    """Example questions that it answers: "Where is my order?"."""


class Connector(StrictModel):
    """One connector file, complete: what an OpenAPI file says is filled in."""

    schema_version: Literal[1]
    source: Words = Field(max_length=64)
    """The system as agents call it."""
    time_zone: Annotated[str, AfterValidator(_checked_time_zone)] = "UTC"
    """Time zone in which times are shown."""
    links: Annotated[tuple[LinkPrefix, ...], Field(max_length=20)] = ()
    """Beginnings of the addresses that a link may lead to."""
    openapi: str | None = None
    """The system's OpenAPI file, relative to this one."""
    operations: Annotated[tuple[Operation, ...], Field(min_length=1, max_length=20)]
    elements: Annotated[tuple[ConnectorElement, ...], Field(min_length=1, max_length=30)]
    not_about: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=200)], ...], Field(max_length=60)
    ] = ()
    """Questions about the same things that no element answers: "What if a parcel is lost?"."""

    @model_validator(mode="after")
    def _elements_are_of_operations(self) -> Self:
        for doubled in _doubled(operations=self.operations, elements=self.elements):
            raise ValueError(doubled)
        for element in self.elements:
            wrong = next(self._wrong(element), None)
            if wrong is not None:
                raise ValueError(f'element "{element.name}": {wrong}')
        return self

    def operation(self, name: str) -> Operation:
        """Return an operation by name. Raises KeyError."""
        return self._operations[name]

    @property
    def _operations(self) -> dict[str, Operation]:
        return {operation.name: operation for operation in self.operations}

    def _wrong(self, element: ConnectorElement) -> Iterator[str]:
        """Yield what of an element does not fit its operation."""
        operation = self._operations.get(element.operation)
        if operation is None:
            yield f'operation = "{element.operation}" is none of {", ".join(self._operations)}'
            return
        results = {result.name: result for result in operation.results}
        for name in filter(None, (*element.fields, element.row_title, element.link)):
            if name not in results:
                yield f'"{name}" is no result of {element.operation}; its results: {", ".join(results)}'
                return
            if not results[name].shown:
                yield f'"{name}" has shown = false'
        yield from _wrong_fields(element.kind, [results[name] for name in element.fields])
        target = None if element.link is None else results[element.link]
        yield from _wrong_link(element.kind, target, has_links=bool(self.links))
        row_title = None if element.row_title is None else results[element.row_title]
        yield from _wrong_row_title(element.kind, row_title)
        if element.kind is ElementKind.STATUS and len(element.fields) != 1:
            yield 'kind = "status" has exactly one field'


def _wrong_fields(kind: ElementKind, fields: Sequence[ResultField]) -> Iterator[str]:
    for field in fields:
        is_in_list = field.rows is not None
        if is_in_list != (kind is ElementKind.TABLE):
            yield f'"{field.name}": results in a list (with * in path) are for tables, and tables for them'
        if field.type == "url":
            yield f'"{field.name}" is an address; show it by kind = "link" and link = "{field.name}"'


def _wrong_link(kind: ElementKind, target: ResultField | None, *, has_links: bool) -> Iterator[str]:
    """Yield what is wrong with the ``link`` of an element; ``target``: the result that it names."""
    leads_somewhere = target is not None and target.type == "url"
    if leads_somewhere != (kind is ElementKind.LINK):
        yield 'kind = "link" needs link, a result of type "url"; other kinds have none'
    if target is not None and target.rows is not None:
        yield "link is a result outside a list"
    if target is not None and not has_links:
        yield 'a link needs links = ["https://…/"] at the top: beginnings of addresses that it may lead to'


def _wrong_row_title(kind: ElementKind, row_title: ResultField | None) -> Iterator[str]:
    """Yield what is wrong with the ``row_title`` of an element; ``row_title``: the result that it names."""
    is_table, is_in_list = kind is ElementKind.TABLE, row_title is not None and row_title.rows is not None
    if (is_table and not is_in_list) or (not is_table and row_title is not None):
        yield 'kind = "table" needs row_title, a result with * in path; other kinds have none'


def _doubled(
    **kinds: Sequence[OperationParameter | ResultField | Operation | ConnectorElement],
) -> Iterator[str]:
    """Yield each name that two items of one kind have. ``kinds``: the items by the word for them."""
    for kind, items in kinds.items():
        names = [item.name for item in items]
        yield from (f'two {kind} have the name "{name}"' for name in names if names.count(name) > 1)


def load_connector(path: Path) -> Connector:
    """Return a connector file, with what its OpenAPI file says.

    Raises ConfigurationError naming file, line, key and what is allowed.
    """
    return read_strict(path, Connector, complete=partial(with_openapi, connector=path))
