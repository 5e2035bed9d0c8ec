"""What a system's OpenAPI 3 file says of the operations that a connector names.

Only GET operations, and of each only path, parameters and the JSON of its 200 response.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from assistant.domain.errors import ConfigurationError

_LARGEST_BYTES = 8 * 1024 * 1024
_DEEPEST = 12
_MOST_RESULTS = 60
_LONGEST_TEXT = 500


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
    """One OpenAPI 3 document."""

    def __init__(self, document: Mapping[str, Any], *, path: Path) -> None:
        self._document = document
        self._path = path

    @classmethod
    def read(cls, path: Path) -> OpenApiFile:
        """Raises ConfigurationError naming the file."""
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
        """Return an operation of a connector with what the document says. Raises ConfigurationError."""
        operation_id = operation.get("operation_id")
        if not isinstance(operation_id, str):
            return operation
        path, found = self._get(operation_id)
        where = f"{connector}: operation {operation_id}"
        said = self._parameters(path, found)
        schema = self._response(found, operation_id)
        return {
            "path": path,
            **operation,
            "parameters": [
                {**said[name], **each}
                if (name := each.get("name")) in said
                else _refuse_parameter(each, said, where)
                for each in operation.get("parameters", [])
            ],
            "results": [self._result(each, schema, where) for each in operation.get("results", [])],
        }

    def sketch(self, operation_id: str) -> dict[str, Any]:
        """Return an operation as a connector writes it, with every parameter and result.

        Raises ConfigurationError.
        """
        path, found = self._get(operation_id)
        parameters = [
            {"name": name, **facts, "words": name.replace("_", " ")}
            for name, facts in self._parameters(path, found).items()
        ]
        results = [
            {
                "name": _name_of(steps),
                "path": ".".join(steps),
                **facts,
                "label": _name_of(steps).replace("_", " "),
            }
            for steps, facts in self._leaves(self._response(found, operation_id), (), True, 0)
        ]
        return {
            "operation_id": operation_id,
            "path": path,
            "parameters": parameters,
            "results": results[:_MOST_RESULTS],
        }

    def _get(self, operation_id: str) -> tuple[str, Mapping[str, Any]]:
        known: list[str] = []
        for path, item in cast("dict[str, Any]", self._document.get("paths", {})).items():
            methods = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
            for method, operation in methods.items():
                if not isinstance(operation, dict):
                    continue
                found = cast("dict[str, Any]", operation)
                if found.get("operationId") == operation_id:
                    if method != "get":
                        raise ConfigurationError(
                            f"{self._path}: {operation_id} is {method.upper()} {path}; only GET operations "
                            "may be called."
                        )
                    shared = methods.get("parameters", [])
                    return path, {**found, "parameters": [*shared, *found.get("parameters", [])]}
                if method == "get":
                    known.append(str(found.get("operationId")))
        raise ConfigurationError(
            f"{self._path}: no operation {operation_id}; GET operations: "
            f"{', '.join(sorted(known)) or 'none'}."
        )

    def _parameters(self, path: str, operation: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for each in operation["parameters"]:
            parameter = self._resolved(each)
            name, schema = str(parameter.get("name")), self._resolved(parameter.get("schema", {}))
            if parameter.get("in") not in ("path", "query"):
                continue
            facts: dict[str, Any] = {"required": bool(parameter.get("required")) or f"{{{name}}}" in path}
            facts["type"] = "integer" if _type_of(schema) == "integer" else "text"
            if schema.get("format") == "date":
                facts["type"] = "date"
            if isinstance(pattern := schema.get("pattern"), str):
                facts["pattern"] = pattern.removeprefix("^").removesuffix("$")
            found[name] = facts
        return found

    def _response(self, operation: Mapping[str, Any], operation_id: str) -> Mapping[str, Any]:
        responses = cast("dict[str, Any]", operation.get("responses", {}))
        response = self._resolved(responses.get("200", responses.get("2XX", {})))
        content = cast("dict[str, Any]", response.get("content", {}))
        for kind, media in content.items():
            if kind.partition(";")[0].strip() == "application/json":
                return self._resolved(cast("dict[str, Any]", media).get("schema", {}))
        raise ConfigurationError(f"{self._path}: {operation_id} has no application/json in its 200 response.")

    def _result(self, result: dict[str, Any], schema: Mapping[str, Any], where: str) -> dict[str, Any]:
        steps = str(result.get("path") or result.get("name")).split(".")
        required, at = True, schema
        for step in steps:
            if step == "*":
                at = self._resolved(at.get("items", {}))
                continue
            properties = self._properties(at)
            if step not in properties:
                known = ", ".join(sorted(properties)) or "nothing"
                raise ConfigurationError(
                    f"{where}: result {'.'.join(steps)}: {self._path} has no {step} there; it has {known}."
                )
            required = required and step in self._required(at) and not self._is_nullable(properties[step])
            at = self._resolved(properties[step])
        facts = {**self._facts(at), "required": required}
        given, said = result.get("type"), str(facts["type"])
        if given is not None and given not in _ALSO.get(said, (said,)):
            raise ConfigurationError(
                f'{where}: result {".".join(steps)}: type = "{given}", and {self._path} says {said}.'
            )
        return {**facts, **result}

    def _leaves(
        self, schema: Mapping[str, Any], steps: tuple[str, ...], required: bool, depth: int
    ) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
        if depth > _DEEPEST:
            return
        kind = _type_of(schema)
        if kind == "array" and "*" not in steps:
            yield from self._leaves(
                self._resolved(schema.get("items", {})), (*steps, "*"), required, depth + 1
            )
        elif properties := self._properties(schema):
            for name, inner in properties.items():
                needed = required and name in self._required(schema) and not self._is_nullable(inner)
                yield from self._leaves(self._resolved(inner), (*steps, name), needed, depth + 1)
        elif steps and kind in ("string", "integer", "number", "boolean"):
            yield steps, {**self._facts(schema), "required": required}

    def _properties(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(cast("dict[str, Any]", schema.get("properties", {})))
        for part in schema.get("allOf", []):
            found |= self._properties(self._resolved(part))
        return found

    def _required(self, schema: Mapping[str, Any]) -> set[str]:
        found = set(cast("list[str]", schema.get("required", [])))
        for part in schema.get("allOf", []):
            found |= self._required(self._resolved(part))
        return found

    def _is_nullable(self, schema: Any) -> bool:
        """Return whether a value may be null, by OpenAPI 3.0's or 3.1's ways to say so.

        A connector's required value is never null, so a key that is always there is not required then.
        """
        for _ in range(_DEEPEST):
            if _at(schema, "nullable") is True or _allows_null(schema):
                return True
            reference = _at(schema, "$ref")
            if not isinstance(reference, str):
                return False
            schema = self._referred(reference)
        return False

    def _facts(self, schema: Mapping[str, Any]) -> dict[str, Any]:
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

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        """Return a schema after its references, which stay inside the document."""
        for _ in range(_DEEPEST):
            if not isinstance(schema, dict):
                return {}
            found = _without_null(cast("dict[str, Any]", schema))
            reference = found.get("$ref")
            if reference is None:
                return found
            schema = self._referred(reference)
        raise ConfigurationError(f"{self._path}: references go round in a circle.")

    def _referred(self, reference: Any) -> Any:
        """Return what a reference names. Raises ConfigurationError where it leads out of the document."""
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
"""Type of the document = narrower types that a connector may say."""


def _refuse_parameter(each: Mapping[str, Any], said: Mapping[str, Any], where: str) -> dict[str, Any]:
    raise ConfigurationError(
        f"{where}: no parameter {each.get('name')} in path or query; it has {', '.join(said) or 'none'}."
    )


def _without_null(schema: dict[str, Any]) -> Mapping[str, Any]:
    """Return the one schema of ``anyOf`` or ``oneOf`` with null."""
    for word in ("anyOf", "oneOf"):
        choices = [one for one in schema.get(word, []) if _at(one, "type") != "null"]
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
    return any(_allows_null(one) for word in ("anyOf", "oneOf") for one in (_at(schema, word) or ()))


def _type_of(schema: Mapping[str, Any]) -> str:
    found = schema.get("type")
    if isinstance(found, list):
        found = next((one for one in cast("list[Any]", found) if one != "null"), None)
    return str(found) if found is not None else "object"


def _at(value: Any, key: str) -> Any:
    return cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None


def _name_of(steps: tuple[str, ...]) -> str:
    words = "_".join(step for step in steps if step != "*")
    spelled = "".join(f"_{one.lower()}" if one.isupper() else one for one in words)
    return "".join(one if one.isalnum() else "_" for one in spelled).strip("_")[:40] or "value"
