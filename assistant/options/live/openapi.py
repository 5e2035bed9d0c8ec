"""Completes a connector file by the system's OpenAPI 3 file.

An operation of the connector names one of the document by ``operation_id``. Only GET operations may be
called. The connector then gets its path, its parameters' types and patterns, and its results' types from the
JSON of the 200 response. What the connector itself says is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from assistant.domain.errors import ConfigurationError

_LARGEST_BYTES = 8 * 1024 * 1024
_DEEPEST = 12
"""References that are followed one after the other."""
_LONGEST_TEXT = 500
"""The most that ``most_characters`` of a result may be."""
_TYPES_BY_FORMAT = {"date": "date", "date-time": "datetime", "uri": "url"}
"""Type of a result that is a string, by the ``format`` of its schema; "text" for others."""
_ALSO: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "url", "date", "datetime", "money"),
    "number": ("number", "money"),
    "integer": ("integer", "number", "money"),
    "url": ("url", "text"),
    "date": ("date", "text"),
    "datetime": ("datetime", "text"),
}
"""Type by the document = types that a connector may give the result."""


def with_openapi(data: dict[str, Any], *, connector: Path) -> dict[str, Any]:
    """Return the connector's data with what its OpenAPI file says. ``connector``: the connector file.

    Raises ConfigurationError where the file lacks an operation or a result, or has another type.
    """
    name, operations = data.get("openapi"), data.get("operations")
    if not isinstance(name, str) or not isinstance(operations, list):
        return data
    document = OpenApiFile.read(connector.parent / name)
    completed = [
        document.completed(cast("dict[str, Any]", operation), connector=connector)
        if isinstance(operation, dict)
        else operation
        for operation in cast("list[Any]", operations)
    ]
    return {**data, "operations": completed}


@dataclass(frozen=True, slots=True)
class _GetOperation:
    """A GET operation of the document."""

    path: str
    """With placeholders: "/orders/{id}"."""
    parameters: tuple[Any, ...]
    """Those of the path, which all its methods share, then its own; references are not followed."""
    responses: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Schema:
    """A schema whose own references were followed; those inside its properties were not."""

    keys: Mapping[str, Any]
    """What it says itself, such as ``type``, ``format`` and ``items``."""
    properties: Mapping[str, Any]
    """Schemas by name, with those of each schema of its ``allOf``."""
    required: frozenset[str]
    """Properties that are always there."""
    is_nullable: bool
    """Whether its value may be null, as OpenAPI 3.0 or 3.1 says it."""


class OpenApiFile:
    """One OpenAPI 3 document.

    completed({"operation_id": "getOrder", "results": [{"name": "status"}]}, connector=…)
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

    def completed(self, operation: dict[str, Any], *, connector: Path) -> dict[str, Any]:
        """Return a connector's operation with what the document says; what the connector says is kept.

        Without ``operation_id`` it stays as it is. Raises ConfigurationError.
        """
        operation_id = operation.get("operation_id")
        if not isinstance(operation_id, str):
            return operation
        described, where = self._get_operation(operation_id), f"{connector}: operation {operation_id}"
        parameters, schema = self._parameters(described), self._response(described, operation_id)
        return {
            "path": described.path,
            **operation,
            "parameters": [
                _with_parameter(stated, parameters, where) for stated in operation.get("parameters", [])
            ],
            "results": [self._with_result(stated, schema, where) for stated in operation.get("results", [])],
        }

    # Operations and their parameters

    def _get_operation(self, operation_id: str) -> _GetOperation:
        """Return a GET operation. Raises ConfigurationError for an unknown one or another method."""
        operations = list(self._operations())
        for path, method, operation in operations:
            if operation.get("operationId") != operation_id:
                continue
            if method != "get":
                refused = f"{operation_id} is {method.upper()} {path}"
                raise ConfigurationError(f"{self._path}: {refused}; only GET operations may be called.")
            shared = self._document["paths"][path].get("parameters", [])
            parameters = (*shared, *operation.get("parameters", []))
            return _GetOperation(path, parameters, operation.get("responses", {}))
        gets = (operation for _, method, operation in operations if method == "get")
        known = ", ".join(sorted(str(operation.get("operationId")) for operation in gets)) or "none"
        raise ConfigurationError(f"{self._path}: no operation {operation_id}; GET operations: {known}.")

    def _operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield path, method and object of each operation."""
        for path, methods in cast("dict[str, Any]", self._document.get("paths", {})).items():
            if isinstance(methods, dict):
                for method, operation in cast("dict[str, Any]", methods).items():
                    if isinstance(operation, dict):
                        yield path, method, cast("dict[str, Any]", operation)

    def _parameters(self, operation: _GetOperation) -> dict[str, dict[str, Any]]:
        """Return by name the keys that a parameter of the connector gets: required, type and pattern."""
        parameters: dict[str, dict[str, Any]] = {}
        for declared in operation.parameters:
            parameter = self._resolved(declared)
            name, schema = str(parameter.get("name")), self._schema(parameter.get("schema", {}))
            if parameter.get("in") in ("path", "query"):
                is_required = bool(parameter.get("required")) or f"{{{name}}}" in operation.path
                parameters[name] = {"required": is_required, **_parameter_keys(schema)}
        return parameters

    # Results

    def _response(self, operation: _GetOperation, operation_id: str) -> _Schema:
        """Return the schema of the JSON of the 200 response. Raises ConfigurationError without one."""
        response = self._resolved(operation.responses.get("200", operation.responses.get("2XX", {})))
        for kind, media in cast("dict[str, Any]", response.get("content", {})).items():
            if kind.partition(";")[0].strip() == "application/json":
                return self._schema(cast("dict[str, Any]", media).get("schema", {}))
        raise ConfigurationError(f"{self._path}: {operation_id} has no application/json in its 200 response.")

    def _with_result(self, stated: dict[str, Any], response: _Schema, where: str) -> dict[str, Any]:
        """Return a connector's result with the type, values and length of its place in the response.

        Raises ConfigurationError for a path that the response does not have, and for a type that contradicts
        it. ``where`` begins the error.
        """
        path = str(stated.get("path") or stated.get("name"))
        schema, is_required = self._place(path, response, where)
        keys = _result_keys(schema)
        stated_type, described = stated.get("type"), str(keys["type"])
        if stated_type is not None and stated_type not in _ALSO.get(described, (described,)):
            raise ConfigurationError(
                f'{where}: result {path}: type = "{stated_type}", and {self._path} says {described}.'
            )
        return {**keys, "required": is_required, **stated}

    def _place(self, path: str, response: _Schema, where: str) -> tuple[_Schema, bool]:
        """Return the schema at a path of the response, and whether a value is always there: each key on the
        path is required and not nullable. A connector's required value is never null."""
        schema, is_required = response, True
        for step in path.split("."):
            if step == "*":  # through a list: ``orders.*.status``
                schema = self._schema(schema.keys.get("items", {}))
                continue
            if step not in schema.properties:
                known = ", ".join(sorted(schema.properties)) or "nothing"
                raise ConfigurationError(
                    f"{where}: result {path}: {self._path} has no {step} there; it has {known}."
                )
            inner = self._schema(schema.properties[step])
            is_required = is_required and step in schema.required and not inner.is_nullable
            schema = inner
        return schema, is_required

    # Schemas and references

    def _schema(self, value: Any) -> _Schema:
        followed = self._followed(value)
        keys = _without_null(followed[-1])
        parts = [self._schema(part) for part in keys.get("allOf", ())]
        properties: dict[str, Any] = dict(keys.get("properties", {}))
        for part in parts:
            properties |= part.properties
        return _Schema(
            keys,
            properties,
            required=frozenset(keys.get("required", ())).union(*(part.required for part in parts)),
            is_nullable=any(_at(step, "nullable") is True or _allows_null(step) for step in followed),
        )

    def _resolved(self, value: Any) -> Mapping[str, Any]:
        """Return the object that a value is, or leads to by its reference."""
        return _without_null(self._followed(value)[-1])

    def _followed(self, value: Any) -> list[dict[str, Any]]:
        """Return an object, then the one that its reference leads to, and so on; the last has no reference.
        What is no object counts as an empty one."""
        followed: list[dict[str, Any]] = []
        for _ in range(_DEEPEST):
            followed.append(cast("dict[str, Any]", value) if isinstance(value, dict) else {})
            reference = _without_null(followed[-1]).get("$ref")
            if reference is None:
                return followed
            value = self._referred(reference)
        raise ConfigurationError(f"{self._path}: references go round in a circle.")

    def _referred(self, reference: Any) -> Any:
        """Return the value of a reference such as "#/components/schemas/Order"; None if there is none.
        Raises ConfigurationError where it leads out of the document."""
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise ConfigurationError(f"{self._path}: {reference}: a reference leads out of the file.")
        value: Any = self._document
        for part in reference[2:].split("/"):
            value = _at(value, part.replace("~1", "/").replace("~0", "~"))
        return value


def _with_parameter(
    stated: Mapping[str, Any], parameters: Mapping[str, Mapping[str, Any]], where: str
) -> dict[str, Any]:
    """Return a connector's parameter with what the document says of it. Raises ConfigurationError for one
    that the document does not have. ``where`` begins the error."""
    name: Any = stated.get("name")
    if name not in parameters:
        known = ", ".join(parameters) or "none"
        raise ConfigurationError(f"{where}: no parameter {name} in path or query; it has {known}.")
    return {**parameters[name], **stated}


def _parameter_keys(schema: _Schema) -> dict[str, str]:
    """Return a parameter's type and pattern: {"type": "string", "pattern": "^[A-Z]{3}$"} gives
    {"type": "text", "pattern": "[A-Z]{3}"}."""
    by_type = "integer" if _type_of(schema) == "integer" else "text"
    keys = {"type": "date" if schema.keys.get("format") == "date" else by_type}
    pattern = schema.keys.get("pattern")
    if not isinstance(pattern, str):
        return keys
    return {**keys, "pattern": pattern.removeprefix("^").removesuffix("$")}


def _result_keys(schema: _Schema) -> dict[str, Any]:
    """Return a result's type, values and length: {"type": "string", "maxLength": 20} gives
    {"type": "text", "most_characters": 20}."""
    json_type, values, most = _type_of(schema), schema.keys.get("enum"), schema.keys.get("maxLength")
    text_type = _TYPES_BY_FORMAT.get(str(schema.keys.get("format")), "text")
    keys: dict[str, Any] = {"type": text_type if json_type == "string" else json_type}
    if isinstance(values, list) and keys["type"] in ("text", "integer"):
        keys["values"] = {str(value): str(value) for value in cast("list[Any]", values) if value is not None}
    if isinstance(most, int) and keys["type"] == "text":
        keys["most_characters"] = max(1, min(most, _LONGEST_TEXT))
    return keys


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
    json_type, values = _at(schema, "type"), _at(schema, "enum")
    if json_type == "null" or (isinstance(json_type, list) and "null" in json_type):
        return True
    if isinstance(values, list) and None in values:
        return True
    return any(_allows_null(choice) for word in ("anyOf", "oneOf") for choice in (_at(schema, word) or ()))


def _type_of(schema: _Schema) -> str:
    """Return the JSON type of a schema: "string" for "string" and for ["string", "null"]."""
    json_type = schema.keys.get("type")
    if isinstance(json_type, list):
        json_type = next((name for name in cast("list[Any]", json_type) if name != "null"), None)
    return str(json_type) if json_type is not None else "object"


def _at(value: Any, key: str) -> Any:
    """Return a key's value in untrusted JSON; None without the key, and where ``value`` is no object."""
    return cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
