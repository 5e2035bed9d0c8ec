"""``Fn::ForEach`` of the language extensions, unrolled where its collection is in the template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

LOOP = "Fn::ForEach::"
_SECTIONS = ("Resources", "Outputs", "Conditions")


def unrolled(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a template with every loop of its sections written out; one over unknown items is left out."""
    if not any(_has_loop(document.get(name)) for name in _SECTIONS):
        return document
    parameters = cast("Mapping[str, Any]", document.get("Parameters") or {})
    return {
        **document,
        **{
            name: dict(_fields(document[name], parameters))
            for name in _SECTIONS
            if isinstance(document.get(name), Mapping)
        },
    }


def _has_loop(section: Any) -> bool:
    return isinstance(section, Mapping) and any(
        name.startswith(LOOP) for name in cast("Mapping[str, Any]", section)
    )


def _fields(section: Any, parameters: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in cast("Mapping[str, Any]", section).items():
        if not name.startswith(LOOP):
            yield name, value
            continue
        identifier, collection, body = cast("list[Any]", value)
        for item in _items(collection, parameters):
            yield from _fields(_with(body, str(identifier), str(item)), parameters)


def _items(collection: Any, parameters: Mapping[str, Any]) -> list[Any]:
    if isinstance(collection, list):
        return cast("list[Any]", collection)
    name = cast("Mapping[str, Any]", collection).get("Ref") if isinstance(collection, Mapping) else None
    declared = cast("Mapping[str, Any]", parameters.get(str(name)) or {})
    default = str(declared.get("Default", ""))
    return [item.strip() for item in default.split(",") if item.strip()]


def _with(value: Any, identifier: str, item: str) -> Any:
    """Return a value with the loop's identifier put in, in names too."""
    if isinstance(value, str):
        for placeholder in (f"${{{identifier}}}", f"&{{{identifier}}}"):
            value = value.replace(placeholder, item)
        return value
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        if dict(fields) == {"Ref": identifier}:
            return item
        return {
            _with(str(key), identifier, item): _with(one, identifier, item) for key, one in fields.items()
        }
    if isinstance(value, list):
        return [_with(one, identifier, item) for one in cast("list[Any]", value)]
    return value
