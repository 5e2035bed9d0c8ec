"""The connector file: the requests that one internal system may get, and what is shown of its responses.

``live.md`` has a complete example. Everything is a GET; nothing here can change a system. ``[[operations]]``
are requests with ``parameters`` and ``results``; ``[[elements]]`` choose results and have the names that
documents and models use. Functions that yield strings yield what is wrong, as sentences for the file's
author.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator
from pydantic_core import SchemaError

from assistant.domain.errors import ConfigurationError
from assistant.domain.identity import Role, SubjectKind
from assistant.domain.live import ElementKind, Tone
from assistant.tenant.toml_file import StrictModel, line_of, read_strict

EACH = "*"
"""Step of a result's path that goes through a list: ``orders.*.status``."""
MOST_ROWS = 50
"""Rows of a list that are shown."""
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
"""A parameter in a path: ``{order_id}``."""
# Parts of a connector's pattern:
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
_UNBOUNDED = re.compile(r"[*+]|\{\d*,\}|\)[?{]|\(\?|\\[1-9]")
"""What may match texts of any length, or has another meaning in Rust's engine: ``a*``, ``a{3,}``, ``(ab)?``,
``(?=…)``, ``\\1``."""
_LONGEST_REPEAT = 64
"""Largest count of a pattern: ``\\d{64}``."""

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


def _is_bounded_pattern(pattern: str) -> str:
    """Return the pattern. Raises ValueError if it is none, has no bound, or means something else in Rust's
    engine."""
    if _CLASS_OPERATION.search(pattern):
        raise ValueError(r"a class has [, &&, --, ~~ or ||; write \[ for a bracket")
    try:
        re.compile(pattern)  # so that no pattern ends the group around it
        _compiled(pattern)
    except (re.error, SchemaError) as error:
        raise ValueError(f"not a regular expression: {str(error).splitlines()[-1]}") from None
    plain = _ESCAPED_OR_CLASS.sub("x", pattern)
    if _UNBOUNDED.search(plain) or re.search(r"\\[1-9]", pattern):
        raise ValueError(
            "a pattern has no *, no +, no open count like {3,}, no repeated group and no look-around; "
            r"write counts: \d{4}-\d{4}"
        )
    if any(int(count) > _LONGEST_REPEAT for count in re.findall(r"\d+(?=\})", plain)):
        raise ValueError(f"a count is over {_LONGEST_REPEAT}")
    return pattern


ValuePattern = Annotated[str, StringConstraints(max_length=200), AfterValidator(_is_bounded_pattern)]


def _is_time_zone(name: str) -> str:
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
        names = {parameter.name: parameter for parameter in self.parameters}
        for placeholder in self.placeholders:
            if placeholder not in names or not names[placeholder].required:
                yield f"path has {{{placeholder}}}, which is no required parameter"
        if taken := names.keys() & self.query.keys():
            yield f"query has the parameter {sorted(taken)[0]}; fixed values are no parameters"
        yield from self._compared_with_nothing(names)
        if self.cache_s:
            yield from self._not_cacheable()
        if self.personal:
            yield from _unproven(self, [result for result in self.results if result.proves_whose])
        lists = {result.rows for result in self.results if result.rows is not None}
        if len(lists) > 1:
            yield "results go through two lists; one operation shows the rows of one"

    def _compared_with_nothing(self, names: Collection[str]) -> Iterator[str]:
        for result in self.results:
            if result.same_as is not None and result.same_as not in names:
                yield f'result "{result.name}": same_as = "{result.same_as}" is none of {", ".join(names)}'

    def _not_cacheable(self) -> Iterator[str]:
        if self.personal:
            yield "personal = true, and results of a person are not cached; delete cache_s"
        if any(result.same_as_context for result in self.results):
            yield "cache_s with same_as_context: a kept response would not be compared; delete one of them"

    @property
    def placeholders(self) -> tuple[str, ...]:
        return tuple(_PLACEHOLDER.findall(self.path))


def _unproven(operation: Operation, proofs: Sequence[ResultField]) -> Iterator[str]:
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
    elif all(result.rows is not None for result in required):
        bare = [result.name for result in operation.results if result.rows is None and result.shown]
        if bare:
            yield (
                f'result "{bare[0]}" is outside the list whose rows say whose data it is, and an empty list '
                "says nothing. Add a required result with same_as or same_as_context outside the list, or "
                f'read "{bare[0]}" by another operation'
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
    time_zone: Annotated[str, AfterValidator(_is_time_zone)] = "UTC"
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
            if wrong := next(self._wrong(element), None):
                raise ValueError(f'element "{element.name}": {wrong}')
        return self

    def operation(self, name: str) -> Operation:
        """Return an operation by name. Raises KeyError."""
        by_name = {operation.name: operation for operation in self.operations}
        return by_name[name]

    def _wrong(self, element: ConnectorElement) -> Iterator[str]:
        """Yield what of an element does not fit its operation."""
        names = [operation.name for operation in self.operations]
        if element.operation not in names:
            yield f'operation = "{element.operation}" is none of {", ".join(names)}'
            return
        results = {result.name: result for result in self.operation(element.operation).results}
        for name in (*element.fields, element.row_title, element.link):
            if name is not None and name not in results:
                yield f'"{name}" is no result of {element.operation}; its results: {", ".join(results)}'
                return
            if name is not None and not results[name].shown:
                yield f'"{name}" has shown = false'
        yield from _wrong_kind(element, results, has_links=bool(self.links))


def _wrong_kind(
    element: ConnectorElement, results: Mapping[str, ResultField], *, has_links: bool
) -> Iterator[str]:
    fields = [results[name] for name in element.fields]
    is_table = element.kind is ElementKind.TABLE
    for field in fields:
        if (field.rows is not None) != is_table:
            yield f'"{field.name}": results in a list (with * in path) are for tables, and tables for them'
        if field.type == "url":
            yield f'"{field.name}" is an address; show it by kind = "link" and link = "{field.name}"'
    yield from _wrong_link(element, results, has_links=has_links)
    title = None if element.row_title is None else results[element.row_title]
    if (title is None or title.rows is None) if is_table else title is not None:
        yield 'kind = "table" needs row_title, a result with * in path; other kinds have none'
    if element.kind is ElementKind.STATUS and len(fields) != 1:
        yield 'kind = "status" has exactly one field'


def _wrong_link(
    element: ConnectorElement, results: Mapping[str, ResultField], *, has_links: bool
) -> Iterator[str]:
    target = None if element.link is None else results[element.link]
    if (element.kind is ElementKind.LINK) != (target is not None and target.type == "url"):
        yield 'kind = "link" needs link, a result of type "url"; other kinds have none'
    if target is not None and target.rows is not None:
        yield "link is a result outside a list"
    if target is not None and not has_links:
        yield 'a link needs links = ["https://…/"] at the top: beginnings of addresses that it may lead to'


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

    def complete(data: dict[str, Any]) -> dict[str, Any]:
        return with_openapi(data, connector=path)

    return read_strict(path, Connector, complete=complete)


def check_entry(connector: Connector, *, whose: str, deadline_s: float, path: Path) -> None:
    """Raise ConfigurationError for a connector that its ``[[reach]]`` entry does not fit.

    The context must decide whose data a personal operation reads, and no operation may take longer than the
    entry allows.
    """
    for number, operation in enumerate(connector.operations):
        wrong = next(misfits(operation, whose=whose, deadline_s=deadline_s), None)
        if wrong is not None:
            line = line_of(path.read_text(encoding="utf-8"), ("operations", number))
            raise ConfigurationError(f'{path}: line {line}: operation "{operation.name}" {wrong}')


def misfits(operation: Operation, *, whose: str, deadline_s: float) -> Iterator[str]:
    """Yield why an operation does not fit its ``[[reach]]`` entry, to follow the operation's name."""
    if (operation.deadline_s or 0.0) > deadline_s:
        yield (
            f"has deadline_s = {operation.deadline_s:g}, and its [[reach]] entry allows {deadline_s:g}. "
            "Raise deadline_s of the entry, or lower this one."
        )
    if operation.personal and whose == "context":
        for undecided in _undecided(operation):
            yield (
                f"is personal, and {undecided}. Or write "
                'whose = "agent" in the [[reach]] entry where the system decides by the agent\'s identity.'
            )


def _undecided(operation: Operation) -> Iterator[str]:
    """Yield how a personal operation could read data of somebody who is not in the context.

    An id that only the question names proves nothing: a result that must equal it repeats the agent's words.
    """
    vouched = {parameter.name for parameter in operation.parameters if parameter.context is not None}
    if not any(parameter.required for parameter in operation.parameters if parameter.name in vouched):
        yield 'none of its required parameters has context = "…". Add it'
    proofs = [result for result in operation.results if result.same_as_context or result.same_as in vouched]
    for fault in _unproven(operation, proofs):
        yield (
            f"the context does not decide it: {fault}. Here a same_as counts where its parameter has "
            'context = "…", and a same_as_context always'
        )
    compared = {result.same_as for result in operation.results if result.required}
    for parameter in operation.parameters:
        if parameter.name not in vouched and parameter.name not in compared:
            yield (
                f'its parameter "{parameter.name}" comes from the question alone, and no required result is '
                f'compared with it. Add context = "…" to it, or a required result with same_as = '
                f'"{parameter.name}"'
            )


# What a system's OpenAPI 3 file says of the operations that a connector names: only GET operations, and of
# each its path, parameters and the JSON of its 200 response.


_LARGEST_BYTES = 8 * 1024 * 1024
_DEEPEST = 12
"""References that are followed one after the other."""
_LONGEST_TEXT = 500
"""The most that ``most_characters`` of a result may be."""


def with_openapi(data: dict[str, Any], *, connector: Path) -> dict[str, Any]:
    """Return the connector's data with what its OpenAPI file says; what the connector says is kept.

    Raises ConfigurationError where the file lacks an operation or a result, or has another type.
    """
    name, operations = data.get("openapi"), data.get("operations")
    if not isinstance(name, str) or not isinstance(operations, list):
        return data
    document = OpenApiFile.read(connector.parent / name)
    filled = [
        document.filled(cast("dict[str, Any]", each), connector=connector) if isinstance(each, dict) else each
        for each in cast("list[Any]", operations)
    ]
    return {**data, "operations": filled}


class OpenApiFile:
    """One OpenAPI 3 document, from which operations of a connector are completed.

    filled({"operation_id": "getOrder", "results": [{"name": "status"}]}, connector=…)
    # {"path": "/orders/{id}", "operation_id": "getOrder", "parameters": [],
    #  "results": [{"type": "text", "required": True, "name": "status"}]}
    """

    def __init__(self, document: Mapping[str, Any], *, path: Path) -> None:
        self._document = document
        self._path = path

    @classmethod
    def read(cls, path: Path) -> OpenApiFile:
        """Return a JSON file's document. Raises ConfigurationError naming the file."""
        try:
            if path.stat().st_size > _LARGEST_BYTES:
                raise ConfigurationError(f"{path}: larger than {_LARGEST_BYTES} bytes.")
            document: Any = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror}.") from None
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{path}: not JSON: {error}. Convert a YAML file to JSON.") from None
        if not isinstance(document, dict) or not str(_at(document, "openapi") or "").startswith("3."):
            raise ConfigurationError(f'{path}: not an OpenAPI 3 file: "openapi" must begin with "3.".')
        return cls(cast("dict[str, Any]", document), path=path)

    def filled(self, operation: dict[str, Any], *, connector: Path) -> dict[str, Any]:
        """Return a connector's operation with what the document says; what the connector says is kept.

        Without ``operation_id`` it stays as it is. Raises ConfigurationError.
        """
        operation_id = operation.get("operation_id")
        if not isinstance(operation_id, str):
            return operation
        path, described = self._get(operation_id)
        where = f"{connector}: operation {operation_id}"
        parameters = self._parameters(path, described)
        schema = self._response(described, operation_id)
        return {
            "path": path,
            **operation,
            "parameters": [
                {**parameters[name], **given}
                if (name := given.get("name")) in parameters
                else _refuse_parameter(given, parameters, where)
                for given in operation.get("parameters", [])
            ],
            "results": [self._result(result, schema, where) for result in operation.get("results", [])],
        }

    def _get(self, operation_id: str) -> tuple[str, Mapping[str, Any]]:
        """Return a GET operation's path and object, with the parameters that all methods of the path share.

        Raises ConfigurationError for an unknown operation or another method.
        """
        items = cast("dict[str, Any]", self._document.get("paths", {})).items()
        operations = [
            (path, method, cast("dict[str, Any]", operation))
            for path, methods in items
            if isinstance(methods, dict)
            for method, operation in cast("dict[str, Any]", methods).items()
            if isinstance(operation, dict)
        ]
        for path, method, operation in operations:
            if operation.get("operationId") != operation_id:
                continue
            if method != "get":
                refused = f"{operation_id} is {method.upper()} {path}"
                raise ConfigurationError(f"{self._path}: {refused}; only GET operations may be called.")
            shared = self._document["paths"][path].get("parameters", [])
            return path, {**operation, "parameters": [*shared, *operation.get("parameters", [])]}
        gets = (operation for _, method, operation in operations if method == "get")
        known = ", ".join(sorted(str(operation.get("operationId")) for operation in gets)) or "none"
        raise ConfigurationError(f"{self._path}: no operation {operation_id}; GET operations: {known}.")

    def _parameters(self, path: str, operation: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return by name the keys that a parameter of the connector gets: required, type and pattern."""
        parameters: dict[str, dict[str, Any]] = {}
        for declared in operation["parameters"]:
            parameter = self._resolved(declared)
            name, schema = str(parameter.get("name")), self._schema(parameter.get("schema", {}))
            if parameter.get("in") not in ("path", "query"):
                continue
            facts: dict[str, Any] = {"required": bool(parameter.get("required")) or f"{{{name}}}" in path}
            facts["type"] = "integer" if _type_of(schema) == "integer" else "text"
            if schema.get("format") == "date":
                facts["type"] = "date"
            if isinstance(pattern := schema.get("pattern"), str):
                facts["pattern"] = pattern.removeprefix("^").removesuffix("$")
            parameters[name] = facts
        return parameters

    def _response(self, operation: Mapping[str, Any], operation_id: str) -> Mapping[str, Any]:
        """Return the schema of the JSON of the 200 response. Raises ConfigurationError without one."""
        responses = cast("dict[str, Any]", operation.get("responses", {}))
        response = self._resolved(responses.get("200", responses.get("2XX", {})))
        content = cast("dict[str, Any]", response.get("content", {}))
        for kind, media in content.items():
            if kind.partition(";")[0].strip() == "application/json":
                return self._schema(cast("dict[str, Any]", media).get("schema", {}))
        raise ConfigurationError(f"{self._path}: {operation_id} has no application/json in its 200 response.")

    def _result(self, result: dict[str, Any], schema: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Return a connector's result with the type, values and length of its place in the schema.

        It is required only if every key on its path is required and not nullable. Raises ConfigurationError
        for a path that the schema does not have, and for a type that contradicts it. ``where`` begins the
        error.
        """
        steps = str(result.get("path") or result.get("name")).split(".")
        required, place = True, schema
        for step in steps:
            if step == "*":
                place = self._schema(place.get("items", {}))
                continue
            properties = place.get("properties", {})
            if step not in properties:
                known = ", ".join(sorted(properties)) or "nothing"
                raise ConfigurationError(
                    f"{where}: result {'.'.join(steps)}: {self._path} has no {step} there; it has {known}."
                )
            inner = self._schema(properties[step])
            required = required and step in place.get("required", ()) and not inner["nullable"]
            place = inner
        facts = {**self._facts(place), "required": required}
        stated, described = result.get("type"), str(facts["type"])
        if stated is not None and stated not in _ALSO.get(described, (described,)):
            raise ConfigurationError(
                f'{where}: result {".".join(steps)}: type = "{stated}", and {self._path} says {described}.'
            )
        return {**facts, **result}

    def _facts(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return a result's keys for a schema: {"type": "string", "maxLength": 20} gives
        {"type": "text", "most_characters": 20}."""
        kind, form = _type_of(schema), schema.get("format")
        formats = {"date": "date", "date-time": "datetime", "uri": "url"}
        types = {"string": formats.get(str(form), "text")}
        facts: dict[str, Any] = {"type": types.get(kind, kind)}
        if isinstance(values := schema.get("enum"), list) and facts["type"] in ("text", "integer"):
            facts["values"] = {
                str(value): str(value) for value in cast("list[Any]", values) if value is not None
            }
        if isinstance(most := schema.get("maxLength"), int) and facts["type"] == "text":
            facts["most_characters"] = max(1, min(most, _LONGEST_TEXT))
        return facts

    def _schema(self, value: Any) -> Mapping[str, Any]:
        """Return a schema with its references followed, and the properties of all schemas of its
        ``allOf``."""
        resolved = self._resolved(value)
        properties: dict[str, Any] = {}
        required: set[str] = set()
        for part in (resolved, *map(self._schema, resolved.get("allOf", ()))):
            properties |= part.get("properties", {})
            required |= set(part.get("required", ()))
        return {**resolved, "properties": properties, "required": required}

    def _resolved(self, value: Any) -> Mapping[str, Any]:
        """Return an object with its references followed; they stay inside the document.

        The key ``nullable`` is added: whether a schema's value may be null, as OpenAPI 3.0 or 3.1 says it. A
        connector's required value is never null, so a nullable key is not required even if it is always
        there.
        """
        nullable = False
        for _ in range(_DEEPEST):
            if not isinstance(value, dict):
                return {"nullable": nullable}
            resolved = _without_null(cast("dict[str, Any]", value))
            nullable = nullable or _at(value, "nullable") is True or _allows_null(value)
            reference = resolved.get("$ref")
            if reference is None:
                return {**resolved, "nullable": nullable}
            value = self._referred(reference)
        raise ConfigurationError(f"{self._path}: references go round in a circle.")

    def _referred(self, reference: Any) -> Any:
        """Return the object of a reference such as "#/components/schemas/Order"; None if there is none.
        Raises ConfigurationError where it leads out of the document."""
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise ConfigurationError(f"{self._path}: {reference}: a reference leads out of the file.")
        schema: Any = self._document
        for part in reference[2:].split("/"):
            schema = _at(schema, part.replace("~1", "/").replace("~0", "~"))
        return schema


_ALSO: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "url", "date", "datetime", "money"),
    "number": ("number", "money"),
    "integer": ("integer", "number", "money"),
    "url": ("url", "text"),
    "date": ("date", "text"),
    "datetime": ("datetime", "text"),
}
"""Type by the document = types that a connector may give the result."""


def _refuse_parameter(given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> dict[str, Any]:
    raise ConfigurationError(
        f"{where}: no parameter {given.get('name')} in path or query; it has {', '.join(known) or 'none'}."
    )


def _without_null(schema: dict[str, Any]) -> Mapping[str, Any]:
    """Return a schema that is one schema or null by ``anyOf`` or ``oneOf`` as that schema; another one as it
    is."""
    for word in ("anyOf", "oneOf"):
        choices = [choice for choice in schema.get(word, []) if _at(choice, "type") != "null"]
        if len(choices) == 1 and isinstance(choices[0], dict):
            return {**schema, **cast("dict[str, Any]", choices[0])}
    return schema


def _allows_null(schema: Any) -> bool:
    """Return whether null is among a schema's types, values or choices."""
    kind, values = _at(schema, "type"), _at(schema, "enum")
    if kind == "null" or (isinstance(kind, list) and "null" in kind):
        return True
    if isinstance(values, list) and None in values:
        return True
    return any(_allows_null(choice) for word in ("anyOf", "oneOf") for choice in (_at(schema, word) or ()))


def _type_of(schema: Mapping[str, Any]) -> str:
    """Return the JSON type of a schema: "string" for "string" and for ["string", "null"]."""
    json_type = schema.get("type")
    if isinstance(json_type, list):
        json_type = next((name for name in cast("list[Any]", json_type) if name != "null"), None)
    return str(json_type) if json_type is not None else "object"


def _at(value: Any, key: str) -> Any:
    """Return a key's value in untrusted JSON; None without the key, and where ``value`` is no object."""
    return cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
