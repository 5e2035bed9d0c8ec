"""Completes a connector file by the system's OpenAPI 3 file.

An operation of the connector names one of the document by ``operation_id``. Only GET operations may be
called. The connector gets its path, the patterns of its parameters, and the JSON Schema of the 200 response.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from assistant.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from jsonschema_rs import Validator

_LARGEST_BYTES = 8 * 1024 * 1024
_DIALECTS = {
    "3.0": "http://json-schema.org/draft-04/schema#",
    "3.1": "https://json-schema.org/draft/2020-12/schema",
}
"""JSON Schema's draft of the schemas in an OpenAPI file, by its version."""
_PATTERNS = {"integer": "[0-9]{1,18}", "date": "[0-9]{4}-[0-9]{2}-[0-9]{2}"}
"""Pattern of a parameter that has none, by the type or format of its schema."""


def with_openapi(data: dict[str, Any], *, connector: Path) -> dict[str, Any]:
    """Return the connector's data with what its OpenAPI file says. ``connector``: the connector file.

    Raises ConfigurationError where the file lacks an operation or a parameter, or has a wrong schema.
    """
    name, operations = data.get("openapi"), data.get("operations")
    if not isinstance(name, str):
        raise ConfigurationError(
            f"{connector}: openapi is needed: it says how requests and responses look. Write openapi = "
            '"FILE.json", the system\'s OpenAPI 3 file beside this one.'
        )
    if not isinstance(operations, list):
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
class OpenApiFile:
    """One OpenAPI 3 document.

    completed({"operation_id": "getOrder", "parameters": [{"name": "id"}], …}, connector=…)
    # {"operation_id": "getOrder", "path": "/orders/{id}", "response": '{"type": "object", …}',
    #  "parameters": [{"required": True, "pattern": "\\d{4}", "name": "id"}], …}
    """

    document: Mapping[str, Any]
    path: Path

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
        if str(_at(document, "openapi"))[:3] not in _DIALECTS:
            raise ConfigurationError(f'{path}: not an OpenAPI 3 file: "openapi" must be 3.0 or 3.1.')
        return cls(document, path)

    def completed(self, operation: dict[str, Any], *, connector: Path) -> dict[str, Any]:
        """Return a connector's operation with what the document says; a parameter's own ``pattern`` and
        ``required`` are kept.

        Raises ConfigurationError, also for what only the document may say.
        """
        where = f'{connector}: operation "{operation.get("name")}"'
        for key in ("path", "response"):
            if key in operation:
                raise ConfigurationError(
                    f'{where}: {key} is read from {self.path.name}. Write operation_id = "…" in its place.'
                )
        operation_id = str(operation.get("operation_id"))
        path, described = self._get_operation(operation_id)
        described_parameters = self._parameters(path, described)
        parameters: list[dict[str, Any]] = []
        for stated in operation.get("parameters", []):
            if stated.get("name") not in described_parameters:
                known = ", ".join(described_parameters) or "none"
                unknown = f"no parameter {stated.get('name')} in path or query"
                raise ConfigurationError(f"{where}: {unknown}; {self.path.name} has {known}.")
            parameters.append({**described_parameters[stated["name"]], **stated})
        response = json.dumps(self._response_schema(described, operation_id))
        return {**operation, "path": path, "parameters": parameters, "response": response}

    def _get_operation(self, operation_id: str) -> tuple[str, Mapping[str, Any]]:
        """Return path and object of a GET operation, with the parameters of its path. Raises
        ConfigurationError for an unknown one or another method."""
        gets: list[str] = []
        for path, method, operation in self._operations():
            name = str(operation.get("operationId"))
            if method == "get":
                gets.append(name)
            if name == operation_id and method != "get":
                refused = f"{operation_id} is {method.upper()} {path}"
                raise ConfigurationError(f"{self.path}: {refused}; only GET operations may be called.")
            if name == operation_id:
                shared = self.document["paths"][path].get("parameters", [])
                return path, {**operation, "parameters": [*shared, *operation.get("parameters", [])]}
        known = ", ".join(sorted(gets)) or "none"
        raise ConfigurationError(f"{self.path}: no operation {operation_id}; GET operations: {known}.")

    def _operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield path, method and object of each operation."""
        for path, methods in cast("dict[str, Any]", self.document.get("paths", {})).items():
            if isinstance(methods, dict):
                for method, operation in cast("dict[str, Any]", methods).items():
                    if isinstance(operation, dict):
                        yield path, method, cast("dict[str, Any]", operation)

    def _parameters(self, path: str, operation: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return by name the keys that a parameter of the connector gets: ``required`` and ``pattern``."""
        parameters: dict[str, dict[str, Any]] = {}
        for declared in operation["parameters"]:
            parameter = self._referred(declared)
            if _at(parameter, "in") not in ("path", "query"):
                continue
            name, schema = str(parameter["name"]), self._referred(_at(parameter, "schema"))
            is_required = _at(parameter, "required") is True or f"{{{name}}}" in path
            kind = str(_at(schema, "format") or _at(schema, "type"))
            pattern = _at(schema, "pattern") or _PATTERNS.get(kind)
            keys = {"pattern": pattern.removeprefix("^").removesuffix("$")} if pattern else {}
            parameters[name] = {"required": is_required, **keys}
        return parameters

    def _response_schema(self, operation: Mapping[str, Any], operation_id: str) -> dict[str, Any]:
        """Return the JSON Schema of the 200 response, which refers to nothing outside itself.

        Raises ConfigurationError without one, and where it is none.
        """
        responses = operation.get("responses", {})
        response = self._referred(responses.get("200", responses.get("2XX")))
        for kind, media in cast("dict[str, Any]", _at(response, "content") or {}).items():
            if kind.partition(";")[0].strip() == "application/json":
                definitions: dict[str, Any] = {}
                root = self._standing_alone(_at(media, "schema") or {}, definitions)
                dialect = _DIALECTS[str(self.document["openapi"])[:3]]
                schema = {"$schema": dialect, "allOf": [root], "definitions": definitions}
                break
        else:
            raise ConfigurationError(
                f"{self.path}: {operation_id} has no application/json in its 200 response."
            )
        try:
            response_validator(json.dumps(schema))
        except ValueError as error:
            wrong = str(error).splitlines()[0]
            raise ConfigurationError(
                f"{self.path}: the response of {operation_id} has a wrong schema: {wrong}"
            ) from None
        return schema

    def _standing_alone(self, value: Any, definitions: dict[str, Any]) -> Any:
        """Return a schema whose references lead into ``definitions``, to which what they refer to is added;
        OpenAPI 3.0's ``nullable`` becomes a choice with null."""
        if isinstance(value, list):
            return [self._standing_alone(each, definitions) for each in cast("list[Any]", value)]
        if not isinstance(value, dict):
            return value
        schema = {
            key: self._standing_alone(each, definitions)
            for key, each in cast("dict[str, Any]", value).items()
        }
        reference = schema.get("$ref")
        if isinstance(reference, str):
            name = reference.removeprefix("#/").replace("/", ".").replace("~", "-")
            if name not in definitions:
                definitions[name] = {}  # a schema may refer to itself
                definitions[name] = self._standing_alone(self._pointed(reference), definitions)
            schema["$ref"] = f"#/definitions/{name}"
        is_nullable = schema.get("nullable") is True
        return {"anyOf": [schema, {"type": "null"}]} if is_nullable else schema

    def _referred(self, value: Any) -> Mapping[str, Any]:
        """Return the object that a value is, or leads to by its reference."""
        reference = _at(value, "$ref")
        found: Any = self._pointed(reference) if isinstance(reference, str) else value
        return cast("dict[str, Any]", found) if isinstance(found, dict) else {}

    def _pointed(self, reference: str) -> Any:
        """Return the value of a reference such as "#/components/schemas/Order"; None if there is none.
        Raises ConfigurationError where it leads out of the document."""
        if not reference.startswith("#/"):
            raise ConfigurationError(f"{self.path}: {reference}: a reference leads out of the file.")
        value: Any = self.document
        for part in reference[2:].split("/"):
            value = _at(value, part.replace("~1", "/").replace("~0", "~"))
        if value is None:
            raise ConfigurationError(f"{self.path}: {reference}: there is no such thing in the file.")
        return value


@lru_cache(maxsize=256)
def response_validator(schema: str) -> Validator:
    """Return the validator of an operation's ``response``. Its patterns are matched in linear time.

    Raises ValueError for what is no JSON Schema, and for a pattern with look-around.
    """
    import jsonschema_rs  # functions read tenant files too, and their image has no such package

    return jsonschema_rs.validator_for(
        json.loads(schema), validate_formats=True, offline=True, pattern_options=jsonschema_rs.RegexOptions()
    )


def _at(value: Any, key: str) -> Any:
    """Return a key's value in untrusted JSON; None without the key, and where ``value`` is no object."""
    return cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
