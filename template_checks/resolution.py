"""CloudFormation's functions and conditions, resolved as far as the templates contain their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, cast

from template_checks.values import Joined, Target, Unknown, Value, items, joined, pattern_of, targets, text

if TYPE_CHECKING:
    from template_checks.template_files import Template
    from template_checks.templates import Templates

_PLACEHOLDER = re.compile(r"\$\{([^}]+)\}")
_NO_VALUE = "\0AWS::NoValue"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Assumptions about what templates leave open.

    ``given`` are parameters' values by name. A parameter of ``others`` has none of the values that a
    condition compares it with. ``decided`` has the outcome of any other open condition, by the names of
    template and condition; an open condition without one is true.
    """

    given: Mapping[str, str] = field(default_factory=dict[str, str])
    others: frozenset[str] = frozenset()
    assumed: Mapping[str, str] = field(default_factory=dict[str, str])
    """Those of ``given`` that are one of several possible values, for the message of a finding."""
    decided: Mapping[tuple[str, str], bool] = field(default_factory=dict[tuple[str, str], bool])
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
            "Fn::FindInMap": self._find_in_map,
            "Fn::Cidr": self._cidr,
            "Fn::ImportValue": self._import_value,
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
        """Return a parameter's value: from the parent stack, as given, or its default."""
        from_parent = self._templates.parent_parameter(template, name)
        if from_parent is not None:
            return self.resolve(*from_parent)
        declared: Mapping[str, Any] = template.section("Parameters")[name]
        kind = str(declared.get("Type", "String"))
        if name in self._world.given:
            return _of_kind(self._world.given[name], kind)
        if name in self._world.others:
            return Unknown(f"{template.name}.{name}")
        if "Default" in declared and not kind.startswith("AWS::SSM::Parameter::Value"):
            return _of_kind(declared["Default"], kind)
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
            "AWS::StackName": template.name if template.is_named else None,
        }
        return known.get(name) or Unknown(name if name != "AWS::StackName" else f"{template.name}.{name}")

    def _get_att(self, argument: Any, template: Template) -> Value:
        logical_id, _, attribute = (
            argument.partition(".") if isinstance(argument, str) else (argument[0], "", argument[1])
        )
        resource = self._templates.find(template, logical_id)
        if resource is None:
            return Unknown(f"{template.name}.{logical_id}.{attribute}")
        attribute = text(self.resolve(attribute, template))
        child = self._templates.child(resource)
        if child is not None and attribute.startswith("Outputs."):
            return self.output(child, attribute.removeprefix("Outputs."))
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

    def _import_value(self, argument: Any, template: Template) -> Value:
        wanted = self.resolve(argument, template)
        source = self._templates.exporting(wanted, self, to=template)
        return self.output(*source) if source else Unknown(f"Fn::ImportValue {text(wanted)}")

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

    def _find_in_map(self, argument: Any, template: Template) -> Value:
        names = [self.resolve(part, template) for part in argument[:3]]
        found: Any = template.section("Mappings")
        for name in names:
            found = cast("Mapping[str, Any]", found).get(text(name)) if isinstance(found, Mapping) else None
        if found is None and len(argument) > 3:  # the fourth is {"DefaultValue": …}
            found = argument[3].get("DefaultValue")
        if found is None:
            return Unknown("Fn::FindInMap " + ".".join(map(text, names)))
        return self.resolve(found, template)

    def _cidr(self, argument: Any, template: Template) -> Value:
        block, count, *bits = (text(self.resolve(part, template)) for part in argument)
        try:
            network = ip_network(block)
            prefix = network.max_prefixlen - int(bits[0] if bits else 8)
            blocks = network.subnets(new_prefix=prefix)
            return [str(next(blocks)) for _ in range(int(count))]
        except (ValueError, StopIteration):
            return Unknown(f"Fn::Cidr {block} {count} {' '.join(bits)}".rstrip())

    # --- conditions ---------------------------------------------------------------------------------------
    def _if(self, argument: Any, template: Template) -> Value:
        condition, then, otherwise = argument
        return self.resolve(then if self.holds(condition, template) else otherwise, template)

    def holds(self, condition: str, template: Template) -> bool:
        """Return whether a condition holds in this world."""
        known = self.condition({"Condition": condition}, template)
        return True if known is None else known

    def condition(self, expression: Any, template: Template) -> bool | None:
        """Return whether a condition holds; None if it is open."""
        if isinstance(expression, bool) or not isinstance(expression, Mapping):
            return {"true": True, "false": False}.get(str(expression).lower())
        ((name, argument),) = cast("Mapping[str, Any]", expression).items()
        if name == "Condition":
            declared = template.section("Conditions").get(argument)
            known = None if declared is None else self.condition(declared, template)
            return self._world.decided.get((template.name, argument)) if known is None else known
        if name == "Fn::Equals":
            return self._equals([self.resolve(part, template) for part in argument])
        parts = [self.condition(part, template) for part in argument]
        if name == "Fn::Not":
            return None if parts[0] is None else not parts[0]
        deciding = name == "Fn::Or"
        if deciding in parts:
            return deciding
        return None if None in parts else not deciding

    def _equals(self, sides: list[Value]) -> bool | None:
        one, other = sides
        if text(one) == text(other):
            return True
        unknown = [side for side in sides if isinstance(side, Unknown | Target | Joined)]
        if any(isinstance(side, Unknown) and parameter_of(side) in self._world.others for side in unknown):
            return False
        return None if unknown else False


def parameter_of(unknown: Unknown) -> str:
    """Return the name of an unknown parameter."""
    return unknown.name.rpartition(".")[2]


def _of_kind(value: Any, kind: str) -> Value:
    if kind == "CommaDelimitedList" or kind.startswith("List<"):
        return [item.strip() for item in str(value).split(",")]
    return value if isinstance(value, bool | int | float) else str(value)


def _partition(region: str) -> str:
    for start, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region.startswith(start):
            return partition
    return "aws"
