"""What an engine lacks, and an assembly in which it is replaced."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from assistant.tenant.toml_file import StrictModel, read_strict

LIST = Path(__file__).with_name("lacks.toml")
_STUB = "AWS::CloudFormation::WaitConditionHandle"
_KEPT = ("Condition", "DependsOn")
Document = dict[str, Any]


class Replaced(StrictModel):
    """An attribute or a property of a type, and what stands in for it."""

    type: str
    name: str
    value: Any
    """Of an attribute its value, of a property those that replace it."""
    refusal: str
    """Words by which the engine refuses a stack without this row."""


class Lacks(StrictModel):
    engine: str
    rows: int
    """The list's length, which only falls."""
    stubs: tuple[str, ...]
    attributes: tuple[Replaced, ...]
    properties: tuple[Replaced, ...]

    def without(self, row: Replaced) -> Lacks:
        kept = {
            kind: tuple(each for each in getattr(self, kind) if each != row)
            for kind in ("attributes", "properties")
        }
        return self.model_copy(update=kept)


def read_lacks() -> Lacks:
    return read_strict(LIST, Lacks)


@dataclass(slots=True)
class Counts:
    """Of the templates of one tenant."""

    resources: int = 0
    stubbed: int = 0
    changed: int = 0
    """Resources that are made with another property, or of which an attribute is made up."""
    custom: int = 0
    """Custom resources, which the tenant's own functions make."""


def replace_lacks(stage: Path, lacks: Lacks) -> Counts:
    """Replace in the templates of a stage, in place, what an engine lacks."""
    counts = Counts()
    for path in sorted(stage.glob("*.template.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        _replace(document, lacks, counts)
        path.write_text(json.dumps(document), encoding="utf-8")
    return counts


def _replace(document: Document, lacks: Lacks, counts: Counts) -> None:
    resources: dict[str, Document] = document["Resources"]
    made_up: set[str] = set()

    def attribute(name: str, attribute: str) -> Any:
        if resources[name]["Type"] in lacks.stubs:
            return f"{name}-{attribute}"
        for row in lacks.attributes:
            if (resources[name]["Type"], attribute) == (row.type, row.name):
                made_up.add(name)
                return row.value
        return None

    for part in ("Resources", "Outputs"):
        document[part] = _with_attributes(document.get(part, {}), attribute)
    for name, resource in document["Resources"].items():
        for row in lacks.properties:
            if resource["Type"] == row.type and resource["Properties"].pop(row.name, None) is not None:
                resource["Properties"] |= row.value
                made_up.add(name)
        if resource["Type"] in lacks.stubs:
            kept = {key: resource[key] for key in _KEPT if key in resource}
            document["Resources"][name] = {"Type": _STUB, **kept}
            counts.stubbed += 1
    counts.resources += len(resources)
    counts.changed += len(made_up)
    counts.custom += sum(each["Type"].startswith("Custom::") for each in resources.values())


def _with_attributes(value: Any, attribute: Callable[[str, str], Any]) -> Any:
    """Return a part of a template with the values that ``attribute`` gives for some ``Fn::GetAtt``."""
    if isinstance(value, list):
        return [_with_attributes(item, attribute) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    parts = cast("Document", value)
    match parts:
        case {"Fn::GetAtt": [str(name), str(wanted)]} if (found := attribute(name, wanted)) is not None:
            return found
        case _:
            return {key: _with_attributes(part, attribute) for key, part in parts.items()}
