"""CloudFormation's functions and conditions, resolved as far as the templates contain their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from template_checks import InvalidInputError
from template_checks.values import (
    Joined,
    Target,
    Unknown,
    Value,
    equalities,
    is_reference,
    items,
    joined,
    pattern_of,
    targets,
    text,
)

if TYPE_CHECKING:
    from template_checks.template_files import Template
    from template_checks.templates import Templates

_PLACEHOLDER = re.compile(r"\$\{([^}]+)\}")
_NO_VALUE = "\0AWS::NoValue"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Assumptions about what templates leave open.

    ``given`` are the values of parameters that conditions read; None is a value that no condition names.
    """

    given: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    account: str | None = None
    region: str | None = None


class Resolver:
    """Resolves values within a template of the set, under one world."""

    def __init__(self, templates: Templates, *, world: World) -> None:
        self._templates = templates
        self._world = world
        self._following: set[tuple[int, str]] = set()
        self._functions: Mapping[str, Callable[[Any, Template], Value]] = {
            "Ref": self._ref,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": self._join,
            "Fn::Select": self._select,
            "Fn::Split": self._split,
            "Fn::If": self._if,
            "Fn::GetStackOutput": self._get_stack_output,
        }

    def resolve(self, value: Any, template: Template) -> Value:
        """Return a raw value, resolved."""
        if isinstance(value, Mapping):
            return self._resolve_mapping(cast("Mapping[str, Any]", value), template)
        if isinstance(value, list | tuple):
            resolved = [self.resolve(item, template) for item in cast("list[Any]", value)]
            return [item for item in resolved if item != _NO_VALUE]
        return value

    def _resolve_mapping(self, value: Mapping[str, Any], template: Template) -> Value:
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name in self._functions:
                return self._functions[name](argument, template)
            if name.startswith("Fn::"):
                inner = self.resolve(argument, template)
                return Unknown(f"{name} {text(joined(items(inner)))}", tuple(targets(inner)))
        fields = {str(name): self.resolve(item, template) for name, item in value.items()}
        return {name: item for name, item in fields.items() if item != _NO_VALUE}

    # --- references ---------------------------------------------------------------------------------------
    def _ref(self, argument: Any, template: Template) -> Value:
        name = str(argument)
        if name in template.section("Parameters"):
            return self.parameter(name, template)
        if name.startswith("AWS::"):
            return self._pseudo(name, template)
        resource = self._templates.find(template, name)
        return Target(resource) if resource else Unknown(f"{template.name}.{name}")

    def parameter(self, name: str, template: Template) -> Value:
        """Return a parameter's value: as given, or its default. The value of an SSM parameter is unknown."""
        given = self._world.given.get(name)
        declared: Mapping[str, Any] = template.section("Parameters")[name]
        is_of_ssm = str(declared.get("Type", "")).startswith("AWS::SSM::Parameter::Value")
        if given is not None:
            return given
        if "Default" in declared and not is_of_ssm and name not in self._world.given:
            return declared["Default"]
        return Unknown(f"{template.name}.{name}")

    def _pseudo(self, name: str, template: Template) -> Value:
        region = template.region or self._world.region
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name == "AWS::Partition":
            return _partition(region or "")
        if name == "AWS::URLSuffix":
            return "amazonaws.com.cn" if (region or "").startswith("cn-") else "amazonaws.com"
        known = {
            "AWS::Region": region,
            "AWS::AccountId": template.account or self._world.account,
            "AWS::StackName": template.name,
        }
        return known.get(name) or Unknown(name)

    def _get_att(self, argument: Any, template: Template) -> Value:
        logical_id, _, attribute = (
            argument.partition(".") if isinstance(argument, str) else (argument[0], "", argument[1])
        )
        resource = self._templates.find(template, logical_id)
        if resource is None:
            return Unknown(f"{template.name}.{logical_id}.{attribute}")
        attribute = text(self.resolve(attribute, template))
        return Target(resource, attribute)

    def output(self, template: Template, name: str) -> Value:
        """Return the value of a template's output."""
        declared = template.section("Outputs").get(name)
        if not isinstance(declared, Mapping):
            return Unknown(f"output {name} of {template.name}")
        place = (id(template), name)
        if place in self._following:
            return Unknown(f"output {name} of {template.name}")  # outputs that refer to each other
        self._following.add(place)
        try:
            return self.resolve(cast("Mapping[str, Any]", declared).get("Value"), template)
        finally:
            self._following.remove(place)

    def _get_stack_output(self, argument: Any, template: Template) -> Value:
        stack = text(self.resolve(argument["StackName"], template))
        name = text(self.resolve(argument["OutputName"], template))
        source = self._templates.named(stack)
        return self.output(source, name) if source else Unknown(f"output {name} of {stack}")

    # --- text and lists -----------------------------------------------------------------------------------
    def _sub(self, argument: Any, template: Template) -> Value:
        pattern = pattern_of(argument)
        names = cast("dict[str, Any]", argument[1]) if isinstance(argument, list) else {}
        parts: list[Value] = []
        end = 0
        for match in _PLACEHOLDER.finditer(pattern):
            parts.append(pattern[end : match.start()])
            end = match.end()
            parts.append(self._substituted(match.group(1).strip(), names, template))
        return joined([*parts, pattern[end:]])

    def _substituted(self, name: str, names: Mapping[str, Any], template: Template) -> Value:
        if name.startswith("!"):
            return f"${{{name[1:]}}}"
        if name in names:
            return self.resolve(names[name], template)
        return self._get_att(name, template) if "." in name else self._ref(name, template)

    def _join(self, argument: Any, template: Template) -> Value:
        delimiter, values = argument
        parts: list[Value] = []
        for index, item in enumerate(items(self.resolve(values, template))):
            parts += [delimiter, item] if index else [item]
        return joined(parts)

    def _split(self, argument: Any, template: Template) -> Value:
        delimiter, value = str(argument[0]), self.resolve(argument[1], template)
        if isinstance(value, str):
            return [*value.split(delimiter)]
        if not isinstance(value, Joined):
            return Unknown(f"Fn::Split {delimiter} {text(value)}", tuple(targets(value)))
        pieces: list[list[Value]] = [[]]
        for part in value.parts:
            split: list[Value] = [*part.split(delimiter)] if isinstance(part, str) else [part]
            pieces[-1].append(split[0])
            pieces += [[piece] for piece in split[1:]]
        return [joined(piece) for piece in pieces]

    def _select(self, argument: Any, template: Template) -> Value:
        index, values = text(self.resolve(argument[0], template)), self.resolve(argument[1], template)
        if isinstance(values, list) and index.isdigit() and int(index) < len(values):
            return values[int(index)]
        return Unknown(f"Fn::Select {index} {text(joined(items(values)))}", tuple(targets(values)))

    # --- conditions ---------------------------------------------------------------------------------------
    def _if(self, argument: Any, template: Template) -> Value:
        condition, then, otherwise = argument
        return self.resolve(then if self.holds(condition, template) else otherwise, template)

    def holds(self, condition: str, template: Template) -> bool:
        """Return whether a condition holds in this world. Raises InvalidInputError if nothing decides it."""
        return self._holds(template.section("Conditions")[condition], template)

    def _holds(self, expression: Any, template: Template) -> bool:
        ((name, argument),) = expression.items()
        if name == "Condition":
            return self.holds(argument, template)
        if name == "Fn::Equals":
            parameter, value = comparison(argument, template)
            return self._world.given.get(parameter) == value
        parts = [self._holds(part, template) for part in argument]
        if name == "Fn::Not":
            return not parts[0]
        return any(parts) if name == "Fn::Or" else all(parts)


def comparison(sides: Any, template: Template) -> tuple[str, str]:
    """Return the parameter and the text that a condition compares."""
    references = [str(cast("dict[str, Any]", side)["Ref"]) for side in sides if is_reference(side)]
    texts = [str(side) for side in sides if isinstance(side, str)]
    if len(references) != 1 or len(texts) != 1:
        raise InvalidInputError(
            f"{template.path}: a condition compares {sides}. Only a parameter with a text can be decided."
        )
    return references[0], texts[0]


def compared_values(templates: Iterable[Template]) -> dict[str, list[str | None]]:
    """Return the values to try for each parameter that a condition reads; None stands for any other value.

    Raises InvalidInputError naming a template whose condition compares something else.
    """
    found: dict[str, list[str | None]] = {}
    for template in templates:
        for sides in equalities(list(template.section("Conditions").values())):
            parameter, value = comparison(sides, template)
            values = found.setdefault(parameter, [None])
            values += [] if value in values else [value]
    return found


def _partition(region: str) -> str:
    for start, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region.startswith(start):
            return partition
    return "aws"
