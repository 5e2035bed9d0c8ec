"""A change to a set of templates: what it does, to which resource, and which mistake it makes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from template_checks.templates import Resource
from tests.stacks.mistakes.scene import Raw, Scene

DELETE = {"Ref": "AWS::NoValue"}
Key = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A change that makes mistake ``number``; 0: none."""

    number: int
    operator: str
    where: str
    change: Callable[[Scene], None]

    def __str__(self) -> str:
        return f"{self.number:02}-{self.operator}-{self.where}"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a template: a resource, and the keys below it."""

    template: Path
    logical_id: str
    keys: tuple[Key, ...] = ()

    @classmethod
    def of(cls, resource: Resource, *keys: Key) -> Place:
        return cls(resource.template.path, resource.logical_id, ("Properties", *keys))

    def document(self, scene: Scene) -> Raw:
        (found,) = (one for one in scene.templates if one.path == self.template)
        return found.document  # type: ignore[return-value]

    def raw(self, scene: Scene) -> Any:
        found: Any = self.document(scene)["Resources"][self.logical_id]
        for key in self.keys:
            found = found[key]
        return found

    def holder(self, scene: Scene) -> Any:
        return Place(self.template, self.logical_id, self.keys[:-1]).raw(scene)

    def set(self, scene: Scene, value: Any) -> None:
        """Set the value at this place; ``DELETE`` removes it."""
        holder = self.holder(scene)
        if value != DELETE:
            holder[self.keys[-1]] = copy.deepcopy(value)
        elif isinstance(holder, list):
            del holder[int(self.keys[-1])]
        else:
            holder.pop(str(self.keys[-1]), None)

    def __str__(self) -> str:
        return f"{self.template.name.split('.')[0]}.{self.logical_id}.{'.'.join(map(str, self.keys[1:]))}"


def edit(number: int, operator: str, place: Place, change: Callable[[Any], None]) -> Mutation:
    """Return a mutation that changes what is at a place."""
    return Mutation(
        number=number,
        operator=operator,
        where=str(place),
        change=lambda scene: change(place.raw(scene)),
    )


def put(number: int, operator: str, place: Place, value: Any) -> Iterator[Mutation]:
    """Yield a mutation for each way to write a value at a place."""
    for spelling, write in _SPELLINGS.items():
        if spelling in ("whole", "branch") or _can_be_spelt(value, spelling):
            yield Mutation(
                number=number,
                operator=f"{operator}, {spelling}",
                where=f"{place} = {value}",
                change=_writing(place, value, write),
            )


def _writing(place: Place, value: Any, write: Callable[[Scene, Place, Any], Any]) -> Callable[[Scene], None]:
    return lambda scene: place.set(scene, write(scene, place, value))


def _can_be_spelt(value: Any, spelling: str) -> bool:
    if spelling == "joined":
        return isinstance(value, str) and len(value) > 1 and "${" not in value
    return isinstance(value, str | int | bool)


def _whole(_scene: Scene, _place: Place, value: Any) -> Any:
    return value


def _branch(scene: Scene, place: Place, value: Any) -> Any:
    """Write the value into the branch that the parameter's default does not choose."""
    document = place.document(scene)
    document.setdefault("Parameters", {})["PlantedSwitch"] = {
        "Type": "String",
        "Default": "right",
        "AllowedValues": ["right", "wrong"],
    }
    document.setdefault("Conditions", {})["PlantedIsWrong"] = {
        "Fn::Equals": [{"Ref": "PlantedSwitch"}, "wrong"]
    }
    holder = place.holder(scene)
    try:
        before = copy.deepcopy(holder[place.keys[-1]])
    except (KeyError, IndexError):
        before = DELETE
    return {"Fn::If": ["PlantedIsWrong", value, before]}


def _parameter(scene: Scene, place: Place, value: Any) -> Any:
    said = str(value).lower() if isinstance(value, bool) else str(value)
    declared = {"Type": "String", "Default": said}
    place.document(scene).setdefault("Parameters", {})["PlantedText"] = declared
    return {"Ref": "PlantedText"}


def _joined(_scene: Scene, _place: Place, value: Any) -> Any:
    middle = len(value) // 2
    return {"Fn::Join": ["", [value[:middle], value[middle:]]]}


def _mapped(scene: Scene, place: Place, value: Any) -> Any:
    document = place.document(scene)
    document.setdefault("Mappings", {})["PlantedMap"] = {"one": {"two": value}}
    return {"Fn::FindInMap": ["PlantedMap", "one", "two"]}


def _selected(_scene: Scene, _place: Place, value: Any) -> Any:
    return {"Fn::Select": [1, ["something", value]]}


_SPELLINGS: dict[str, Callable[[Scene, Place, Any], Any]] = {
    "whole": _whole,
    "branch": _branch,
    "parameter": _parameter,
    "joined": _joined,
    "mapped": _mapped,
    "selected": _selected,
}
