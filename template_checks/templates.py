"""Templates read together: their resources with every reference resolved, also between templates.

::

    templates = Templates.read([Path("cdk.out/assembly-Pharmacy")])
    for world in templates.worlds():
        for listener in world.of("AWS::ElasticLoadBalancingV2::Listener"):
            listener.properties["LoadBalancerArn"]  # Target(<Resource Edge.Nlb>, "Ref")

A property is a plain value, a ``Target`` (an attribute of a resource), an ``Unknown`` (decided outside the
templates), or a ``Joined`` (text with either in it). A *raw* value is as the template has it (``{"Ref":
"Bucket"}``), a *resolved* one has these in place of CloudFormation's functions.

A *world* is one outcome of all conditions: there is one for each value with which a condition compares a
parameter (``Power`` is ``paused``), and one for any other value.

In this module: values, resolved and raw; CloudFormation's functions and conditions; the files of an assembly;
resources read together.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, cast

from template_checks import InvalidInputError


@dataclass(frozen=True, slots=True)
class Target:
    """An attribute of a resource, as ``Ref`` (attribute ``Ref``) or ``Fn::GetAtt`` returns it."""

    resource: Resource
    attribute: str = "Ref"

    def __str__(self) -> str:
        return f"${{{self.resource.template.name}.{self.resource.logical_id}.{self.attribute}}}"


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value outside the templates: a parameter without default, an SSM parameter, a pseudo parameter.

    ``name`` is stable: the same unknown value has the same name everywhere in a template.
    """

    name: str
    about: tuple[Target, ...] = ()
    """The resources whose attributes it is made of."""

    def __str__(self) -> str:
        return f"${{{self.name}}}"


@dataclass(frozen=True, slots=True)
class Joined:
    """Text with attributes or unknown values in it (``s3://${Models.Bucket.Ref}/llm/``)."""

    parts: tuple[str | Target | Unknown, ...]

    def __str__(self) -> str:
        return "".join(map(str, self.parts))


Scalar: TypeAlias = "str | bool | int | float"
Value: TypeAlias = "Scalar | Target | Unknown | Joined | list[Value] | dict[str, Value] | None"


def joined(parts: Sequence[Value]) -> str | Target | Unknown | Joined:
    """Return the parts as one text: a string if all are known, the part itself if there is only one.

    ``joined(["s3://", Target(bucket), "/llm/"])`` is a ``Joined`` of three parts.
    """
    flat: list[str | Target | Unknown] = []
    for part in parts:
        for piece in part.parts if isinstance(part, Joined) else (part,):
            addition = piece if isinstance(piece, Target | Unknown) else text(piece)
            if isinstance(addition, str) and flat and isinstance(flat[-1], str):
                flat[-1] += addition
            elif addition != "":
                flat.append(addition)
    if not flat:
        return ""
    return flat[0] if len(flat) == 1 else Joined(tuple(flat))


def text(value: Value) -> str:
    """Return a value as text: ``${…}`` for an unknown part, empty for an absent value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def is_known(value: Value) -> bool:
    """Return whether the template contains the whole value: no attribute of a resource and no unknown
    part."""
    if isinstance(value, list):
        return all(map(is_known, value))
    if isinstance(value, dict):
        return all(map(is_known, value.values()))
    return not isinstance(value, Target | Unknown | Joined)


def flag(value: Value) -> bool | None:
    """Return a boolean property, given as boolean or text; None if absent or unknown."""
    return {"true": True, "on": True, "false": False, "off": False}.get(text(value).lower())


def integer(value: Value) -> int | None:
    """Return a whole number, given as number or text; None if absent, unknown or not a number."""
    try:
        return int(text(value))
    except ValueError:
        return None


def items(value: Value) -> list[Value]:
    """Return a list's items; a single value as a list of one, an absent one as an empty list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def mapping(value: Value) -> Mapping[str, Value]:
    """Return an object's fields; none if the value is no object."""
    return value if isinstance(value, dict) else {}


def at(value: Value, *path: str) -> Value:
    """Return the value at a path of fields; None if a field is absent."""
    for name in path:
        value = mapping(value).get(name)
    return value


def targets(value: Value) -> list[Target]:
    """Return the attributes of resources that a value is made of, in order."""
    if isinstance(value, Target):
        return [value]
    if isinstance(value, Unknown):
        return list(value.about)
    parts: Sequence[Value] = ()
    if isinstance(value, Joined):
        parts = [part for part in value.parts if not isinstance(part, str)]
    elif isinstance(value, list | dict):
        parts = value if isinstance(value, list) else list(value.values())
    return [target for part in parts for target in targets(part)]


def refers_to(value: Value, resource: Resource) -> bool:
    """Return whether a value is made of an attribute of a resource."""
    return any(target.resource is resource for target in targets(value))


def texts_of(name: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield the name of a variable and its text; of a text that is JSON, each text in it with its field's
    name: ``REACH``, ``{"orders": "https://a"}`` → ``("orders", "https://a")``."""
    if not value.lstrip().startswith(("{", "[")):
        yield name, value
        return
    try:
        document = json.loads(value)
    except ValueError:
        yield name, value
    else:
        yield from _texts_of_json(name, document)


def _texts_of_json(name: str, document: Any) -> Iterator[tuple[str, str]]:
    if isinstance(document, dict):
        for field, item in cast("dict[str, Any]", document).items():
            yield from _texts_of_json(str(field), item)
    elif isinstance(document, list):
        for item in cast("list[Any]", document):
            yield from _texts_of_json(name, item)
    elif isinstance(document, str):
        yield name, document


# --- raw values, before they are resolved -----------------------------------------------------------------
def is_reference(value: Any) -> bool:
    """Return whether a raw value is one ``Ref``."""
    return isinstance(value, Mapping) and set(cast("Mapping[str, Any]", value)) == {"Ref"}


def equalities(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield both sides of every ``Fn::Equals``."""
    for name, argument in raw_fields(value):
        if name == "Fn::Equals":
            yield argument[0], argument[1]
        else:
            yield from equalities(argument)


def referred(value: Any) -> Iterator[str]:
    """Yield the names of the resources and parameters that a raw value refers to."""
    for name, argument in raw_fields(value):
        if name == "Ref":
            yield str(argument)
        elif name == "Fn::GetAtt":
            yield argument.split(".")[0] if isinstance(argument, str) else str(argument[0])
        elif name == "Fn::Sub":
            for placeholder in re.findall(r"\$\{([^}!]+)\}", pattern_of(argument)):
                yield placeholder.split(".")[0]
            yield from referred(argument)
        else:
            yield from referred(argument)


def pattern_of(argument: Any) -> str:
    """Return the text of a ``Fn::Sub``, with or without a map of names."""
    return str(cast("list[Any]", argument)[0] if isinstance(argument, list) else argument)


def raw_fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and value of the fields of an object, or of every object in a list (also within lists)."""
    if isinstance(value, Mapping):
        yield from cast("Mapping[str, Any]", value).items()
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from raw_fields(item)


_PLACEHOLDER = re.compile(r"\$\{([^}]+)\}")
_NO_VALUE = "\0AWS::NoValue"
"""Resolved ``{"Ref": "AWS::NoValue"}``, which removes the property or the item that it stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Assumptions about what templates leave open.

    ``given``: values of the parameters that conditions read; None is any value that no condition names.
    ``account`` and ``region``: of templates that name none.
    """

    given: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    account: str | None = None
    region: str | None = None


class Resolver:
    """Resolves raw values of the templates of a set, in one world.

    A method for a function (``_join`` for ``Fn::Join``) gets the function's raw argument and its template.
    Functions that are not listed give an ``Unknown``.
    """

    def __init__(self, templates: Templates, *, world: World) -> None:
        self._templates = templates
        self._world = world
        self._following: set[tuple[int, str]] = set()
        """Outputs that are being resolved, to notice those that refer to each other."""
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
        assumed = self._world.given.get(name)
        declared: Mapping[str, Any] = template.section("Parameters")[name]
        is_of_ssm = str(declared.get("Type", "")).startswith("AWS::SSM::Parameter::Value")
        if assumed is not None:
            return assumed
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
        key = (id(template), name)
        if key in self._following:
            return Unknown(f"output {name} of {template.name}")  # outputs that refer to each other
        self._following.add(key)
        try:
            return self.resolve(cast("Mapping[str, Any]", declared).get("Value"), template)
        finally:
            self._following.remove(key)

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
        """Return the value of a placeholder: ``${!Name}`` is ``${Name}`` itself, ``${A.Arn}`` an
        attribute."""
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
    """Return the parameter and the text that a condition compares: ``[{"Ref": "Power"}, "paused"]`` →
    ``("Power", "paused")``. Raises InvalidInputError for anything else."""
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
    values_of: dict[str, list[str | None]] = {}
    for template in templates:
        for sides in equalities(list(template.section("Conditions").values())):
            parameter, value = comparison(sides, template)
            tried = values_of.setdefault(parameter, [None])
            tried += [] if value in tried else [value]
    return values_of


def _partition(region: str) -> str:
    """Return the part of AWS of a region; ``aws`` for an unknown one."""
    for start, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region.startswith(start):
            return partition
    return "aws"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Template:
    """One template; ``name`` is its stack's. ``account`` and ``region`` are None if unknown."""

    name: str
    path: Path
    document: Mapping[str, Any]
    account: str | None = None
    region: str | None = None

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a top-level section (``Resources``, ``Parameters``…); empty if absent."""
        section = self.document.get(name)
        return cast("Mapping[str, Any]", section) if isinstance(section, Mapping) else {}


def read_templates(folders: Iterable[Path]) -> list[Template]:
    """Read every template of assemblies (``cdk.out/assembly-Pharmacy``).

    Raises InvalidInputError naming a folder without a manifest, or a file that is not JSON.
    """
    return [template for folder in folders for template in _templates_of(folder)]


def _templates_of(folder: Path) -> Iterator[Template]:
    """Yield the templates of an assembly. Its manifest names them, with ``aws://<account>/<region>``."""
    for artifact in _document(folder / "manifest.json").get("artifacts", {}).values():
        if artifact.get("type") != "aws:cloudformation:stack":
            continue
        path = folder / artifact["properties"]["templateFile"]
        account, _, region = str(artifact.get("environment", "")).removeprefix("aws://").partition("/")
        yield Template(
            name=str(artifact["properties"]["stackName"]),
            path=path,
            document=_document(path),
            account=account if account.isdigit() else None,
            region=None if region.startswith("unknown") else region or None,
        )


def _document(path: Path) -> Mapping[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(
            f"{path}: cannot be read: {error}. Name an assembly of cdk synth: cdk.out/assembly-Pharmacy."
        ) from None
    except ValueError as error:
        raise InvalidInputError(f"{path}: not valid JSON: {error}") from None


__all__ = ["Resource", "Template", "Templates"]


class Resource:
    """One resource of one template, in one world. Equal only to itself. Properties are resolved when first
    read."""

    def __init__(self, logical_id: str, *, template: Template, raw: Mapping[str, Any], resolver: Resolver):
        self.logical_id = logical_id
        self.template = template
        self.type = str(raw["Type"])
        self.raw = raw
        """As in the template, with type, properties, metadata and policies."""
        self._resolver = resolver

    @cached_property
    def properties(self) -> Mapping[str, Value]:
        """Its properties, resolved."""
        resolved = self._resolver.resolve(self.raw.get("Properties") or {}, self.template)
        return resolved if isinstance(resolved, dict) else {}

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The logical ids under ``DependsOn``."""
        declared = self.raw.get("DependsOn", ())
        return (declared,) if isinstance(declared, str) else tuple(declared)

    @property
    def exists(self) -> bool:
        """Whether its condition holds in this world."""
        condition = self.raw.get("Condition")
        return condition is None or self._resolver.holds(condition, self.template)

    @cached_property
    def region(self) -> str:
        """The region that it is made in; ``${AWS::Region}`` if unknown."""
        return text(self._resolver.resolve({"Ref": "AWS::Region"}, self.template))

    @cached_property
    def account(self) -> str:
        """The account that it is made in; ``${AWS::AccountId}`` if unknown."""
        return text(self._resolver.resolve({"Ref": "AWS::AccountId"}, self.template))

    @property
    def partition(self) -> str:
        """The part of AWS that its region is in, as ARNs name it: ``aws``, ``aws-us-gov``, ``aws-cn``."""
        return _partition(self.region)

    def __repr__(self) -> str:
        return f"<Resource {self.template.name}.{self.logical_id}>"


class Templates:
    """A set of templates in one world; ``worlds()`` returns all possible ones."""

    def __init__(self, templates: Iterable[Template], *, world: World | None = None) -> None:
        self.templates = tuple(templates)
        self._world = world or World()
        self._resolver = Resolver(self, world=self._world)
        self._made_before: dict[Resource, frozenset[Resource]] = {}
        """Direct dependencies, as far as ``dependencies`` has read them."""
        self._resources = {
            (id(template), logical_id): Resource(
                logical_id, template=template, raw=raw, resolver=self._resolver
            )
            for template in self.templates
            for logical_id, raw in template.section("Resources").items()
        }

    @classmethod
    def read(
        cls, folders: Iterable[Path], *, account: str | None = None, region: str | None = None
    ) -> Templates:
        """Read assemblies; ``account`` and ``region`` are for stacks that name none.

        Raises InvalidInputError naming the file.
        """
        return cls(read_templates(folders), world=World(account=account, region=region))

    # --- resources ----------------------------------------------------------------------------------------
    def of(self, *types: str) -> list[Resource]:
        """Return the resources of these types that exist in this world; of all types if none is given."""
        return [
            resource
            for resource in self._resources.values()
            if (not types or resource.type in types) and resource.exists
        ]

    def find(self, template: Template, logical_id: str) -> Resource | None:
        """Return a resource of a template, whether it exists in this world or not."""
        return self._resources.get((id(template), logical_id))

    def resolve(self, value: Any, *, within: Template) -> Value:
        """Return a raw value of a template, resolved."""
        return self._resolver.resolve(value, within)

    def dependencies(self, resource: Resource) -> frozenset[Resource]:
        """Return every resource that CloudFormation makes before this one, over several steps.

        A dependency is named by ``DependsOn`` or by a reference. A reference to another template's output
        depends on everything in that template, because stacks are deployed one after the other.
        """
        seen: set[Resource] = set()
        waiting = [resource]
        while waiting:
            current = waiting.pop()
            if current not in self._made_before:
                self._made_before[current] = frozenset(self._direct(current))
            for dependency in self._made_before[current]:
                if dependency not in seen:
                    seen.add(dependency)
                    waiting.append(dependency)
        return frozenset(seen - {resource})

    def _direct(self, resource: Resource) -> Iterator[Resource]:
        """Yield what a resource itself names."""
        for name in [*resource.depends_on, *referred(resource.raw.get("Properties"))]:
            target = self.find(resource.template, name)
            if target is not None:
                yield target
        for source in self._imported(resource.raw.get("Properties"), resource.template):
            yield from (resource for resource in self._resources.values() if resource.template is source)

    def _imported(self, value: Any, template: Template) -> Iterator[Template]:
        """Yield the templates whose outputs a raw value uses."""
        for name, argument in raw_fields(value):
            if name == "Fn::GetStackOutput":
                source = self.named(text(self.resolve(argument["StackName"], within=template)))
                if source is not None:
                    yield source
            else:
                yield from self._imported(argument, template)

    def named(self, stack: str) -> Template | None:
        """Return the template of a stack by its name."""
        return next((template for template in self.templates if template.name == stack), None)

    def worlds(self) -> list[Templates]:
        """Return this set once for each possible outcome of its conditions.

        Raises InvalidInputError naming a condition that does not compare a parameter with a text.
        """
        values = compared_values(self.templates)
        return [
            Templates(
                self.templates, world=replace(self._world, given=dict(zip(values, chosen, strict=True)))
            )
            for chosen in itertools.product(*values.values())
        ]
