"""The connector file: the requests that one internal system may get, and what is shown of its responses.

``live.md`` has a complete example. Everything is a GET; nothing here can change a system. ``[[operations]]``
are requests with ``parameters`` and ``results``; ``[[elements]]`` choose results and have the names that
documents and models use. The system's OpenAPI file says how requests and responses look, and ``openapi.py``
fills that in; a result is a JMESPath expression over the response. ``section.py`` compares a connector with
the ``[[reach]]`` entry that names it.

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

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator
from pydantic_core import SchemaError

from assistant.domain.identity import Role, SubjectKind
from assistant.domain.live import ElementKind, Tone
from assistant.options.live.openapi import with_openapi
from assistant.tenant.toml_file import KeyMark, StrictModel, read_strict

EACH = "[*]."
"""What a path has between a list and the value of each of its rows: ``orders[*].status``."""
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


@lru_cache(maxsize=4_096)
def _compiled(pattern: str) -> TypeAdapter[str]:
    """Return a validator of the texts in which a pattern is found. Raises SchemaError for what is no pattern.

    Rust's engine, which pydantic has: its time is linear in the text for every pattern. ``re`` tries each way
    through ``(a|a)(a|a)…`` or ``a?a?…`` in turn, which blocks the event loop for seconds on one word.
    """
    constraint = StringConstraints(pattern=pattern)
    return TypeAdapter(Annotated[str, constraint], config=ConfigDict(regex_engine="rust-regex"))


def matches_whole(pattern: str, text: str) -> bool:
    """Return whether a connector's pattern matches a whole text, which must be ASCII."""
    return text.isascii() and _compiled(f"^(?:{pattern})$").validator.isinstance_python(text)


def _checked_pattern(pattern: str) -> str:
    """Return the pattern. Raises ValueError for what is no pattern of Rust's engine, such as "(" or
    "(?=a)"."""
    try:
        _compiled(pattern)  # by itself, so that no pattern ends the group around it
        matches_whole(pattern, "")
    except SchemaError as error:
        raise ValueError(f"not a regular expression: {str(error).splitlines()[-1]}") from None
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
    pattern: ValuePattern | None = None
    """Regular expression that a whole value must match; by default the OpenAPI file's."""
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
    """Whether nothing is asked without it; by default as the OpenAPI file says."""

    @model_validator(mode="after")
    def _comes_from_somewhere(self) -> Self:
        if self.question and self.pattern is None and self.check == "none":
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


def _checked_path(path: str) -> str:
    """Return the path. Raises ValueError for one that is no JMESPath expression."""
    if ".*" in path:
        raise ValueError(f'[*] goes through a list now: write path = "{path.replace(".*", "[*]")}"')
    for part in path.split(EACH, 1) if path else ():
        try:
            jmespath.compile(part)
        except JMESPathError as error:
            message = str(error).splitlines()[0]
            raise ValueError(f'"{part}" is no JMESPath expression: {message}') from None
    return path


class ResultField(StrictModel):
    """One value of a response. How it looks there, the OpenAPI file says."""

    name: Name
    path: Annotated[str, StringConstraints(max_length=200), AfterValidator(_checked_path)] = ""
    """JMESPath expression over the response, by default the name. ``orders[*].status`` is a value of each row
    of the list ``orders``."""
    format: Literal["date", "date-time", "uri"] | None = None
    """How a text is shown: as a day, as a time, or as the address of a link."""
    label: Label = ""
    shown: bool = True
    """False: checked, never shown."""
    values: Annotated[Mapping[str, Words], Field(max_length=100)] = {}
    """Every allowed value = its words; empty allows any value."""
    tones: Annotated[Mapping[str, Tone], Field(max_length=100)] = {}
    """Value = the tone in which it is shown; the keys are among those of ``values``."""
    unit: Label = ""
    """Shown after a number."""
    currency: str | None = Field(default=None, pattern=r"^[A-Z]{3}$")
    """Of an amount of money."""
    same_as: ParameterName | None = None
    """Parameter whose value it must equal, or the whole response is refused."""
    same_as_context: SubjectKind | None = None
    """It must be one of the context's ids of this kind, or the whole response is refused."""
    names: Annotated[tuple[Words, ...], Field(max_length=20)] = ()
    """Not empty: the value is the name of the thing that is read, such as "metformin". The words tell which
    glossary entries are such names: those whose meaning has one of them, as "medicine"."""

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if unknown := sorted(self.tones.keys() - self.values.keys()):
            raise ValueError(
                f'result "{self.name}": tones has "{unknown[0]}", which is none of its values: '
                f"{', '.join(self.values) or 'write values first'}"
            )
        if self.names and self.rows is not None:
            raise ValueError(f'result "{self.name}": names is for one text, not for a list')
        return self

    @property
    def rows(self) -> str | None:
        """Expression of the list that it is in: "orders"; None outside a list."""
        before, each, _ = self.path.partition(EACH)
        return before if each else None

    @property
    def value(self) -> str:
        """Expression of the value, over the response or over a row of the list."""
        return self.path.partition(EACH)[2] or self.path or self.name

    @property
    def proves_whose(self) -> bool:
        """Whether it is compared, so that it proves whose data the response has."""
        return self.same_as is not None or self.same_as_context is not None


class Operation(StrictModel):
    """One GET request of the system."""

    name: Name
    operation_id: str = Field(min_length=1, max_length=100)
    """``operationId`` in the OpenAPI file."""
    path: RequestPath
    """In no connector file: of the OpenAPI file, as ``response``."""
    response: str
    """JSON Schema of the response, as JSON."""
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

    ``proofs``: its results that are compared with an id of the asked person; a response without one of them
    is refused. There must be one, and one outside the list if anything outside the list is shown.
    """
    if not proofs:
        yield (
            "personal = true needs a result with same_as or same_as_context: without it another person's "
            "data would be shown"
        )
        return
    shown_outside = [result.name for result in operation.results if result.rows is None and result.shown]
    if shown_outside and all(result.rows is not None for result in proofs):
        yield (
            f'result "{shown_outside[0]}" is outside the list whose rows say whose data it is, and an empty '
            "list says nothing. Add a result with same_as or same_as_context outside the list, or read "
            f'"{shown_outside[0]}" by another operation'
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
    """For a link: a result with ``format = "uri"``."""
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
    openapi: Annotated[str | None, KeyMark.NAMES_A_FILE] = None
    """The system's OpenAPI file, relative to this one; None in a container's tenant file."""
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
        shown = tuple(filter(None, (*element.fields, element.row_title, element.link)))
        for name in shown:
            if name not in results:
                yield f'"{name}" is no result of {element.operation}; its results: {", ".join(results)}'
                return
            if not results[name].shown:
                yield f'"{name}" has shown = false'
        yield from self._misplaced(element, [results[name] for name in shown])

    def _misplaced(self, element: ConnectorElement, shown: Sequence[ResultField]) -> Iterator[str]:
        """Yield what of an element does not fit its kind. ``shown``: all results that it names."""
        for result in shown:
            if (result.rows is not None) != (element.kind is ElementKind.TABLE):
                yield f'"{result.name}": results in a list (with [*] in path) are for tables, and others not'
            if (result.format == "uri") != (result.name == element.link):
                yield f'"{result.name}": link names a result with format = "uri", fields and row_title others'
        for key, name, kind in (
            ("link", element.link, ElementKind.LINK),
            ("row_title", element.row_title, ElementKind.TABLE),
        ):
            if (name is None) == (element.kind is kind):
                yield f'kind = "{kind}" needs {key}; other kinds have none'
        if element.link is not None and not self.links:
            yield 'a link needs links = ["https://…/"] at the top: what addresses may begin with'
        if element.kind is ElementKind.STATUS and len(element.fields) != 1:
            yield 'kind = "status" has exactly one field'


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
