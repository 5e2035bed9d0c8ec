"""Templates read together: their resources with every reference resolved, also between templates.

::

    templates = Templates.read([Path("cdk.out/assembly-Pharmacy")])
    for world in templates.worlds():
        for listener in world.of("AWS::ElasticLoadBalancingV2::Listener"):
            listener.properties["LoadBalancerArn"]  # Target(<Resource Edge.Nlb>, "Ref")

A property is a plain value, a ``Target`` (an attribute of a resource), a ``Joined`` (text with either in it)
or an ``Unknown``; ``template_checks.values`` reads them. Parameters' defaults or given values decide
``Fn::If``; if they leave it open, there is one world for each possible outcome.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, cast

from template_checks.resolution import Resolver, World
from template_checks.template_files import Template, read_templates
from template_checks.values import Value, equalities, is_known, is_reference, raw_fields, referred, text

__all__ = ["Resource", "Template", "Templates"]

_MOST_WORLDS = 64
_STACK_TYPES = ("AWS::CloudFormation::Stack", "AWS::Serverless::Application")


class Resource:
    """One resource of one template, in one world. Equal only to itself."""

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
        found = self._resolver.resolve(self.raw.get("Properties") or {}, self.template)
        return found if isinstance(found, dict) else {}

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The logical ids under ``DependsOn``."""
        declared = self.raw.get("DependsOn", ())
        return (declared,) if isinstance(declared, str) else tuple(declared)

    @property
    def condition(self) -> str | None:
        return self.raw.get("Condition")

    @property
    def exists(self) -> bool:
        """Whether its condition holds in this world."""
        return self.condition is None or self._resolver.holds(self.condition, self.template)

    @cached_property
    def region(self) -> str:
        """The region that it is made in; ``${AWS::Region}`` if unknown."""
        return text(self._resolver.resolve({"Ref": "AWS::Region"}, self.template))

    @cached_property
    def account(self) -> str:
        """The account that it is made in; ``${AWS::AccountId}`` if unknown."""
        return text(self._resolver.resolve({"Ref": "AWS::AccountId"}, self.template))

    def __repr__(self) -> str:
        return f"<Resource {self.template.name}.{self.logical_id}>"


class Templates:
    """A set of templates in one world; ``worlds()`` returns all possible ones."""

    def __init__(self, templates: Iterable[Template], *, world: World | None = None) -> None:
        self.templates = tuple(templates)
        self._world = world or World()
        self._resolver = Resolver(self, world=self._world)
        self._made_before: dict[Resource, frozenset[Resource]] = {}
        self._resources = {
            (id(template), logical_id): Resource(
                logical_id, template=template, raw=raw, resolver=self._resolver
            )
            for template in self.templates
            for logical_id, raw in template.section("Resources").items()
        }

    @classmethod
    def read(
        cls,
        paths: Iterable[Path],
        *,
        parameters: Mapping[str, str] | None = None,
        account: str | None = None,
        region: str | None = None,
    ) -> Templates:
        """Read files and folders. ``parameters``, ``account`` and ``region`` fill what they leave open.

        Raises InvalidInputError naming the file.
        """
        world = World(given=parameters or {}, account=account, region=region)
        return cls(read_templates(paths), world=world)

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

        These are named by ``DependsOn`` or by reference. A reference to another template's output counts for
        everything in that template.
        """
        seen: set[Resource] = set()
        waiting = [resource]
        while waiting:
            one = waiting.pop()
            if one not in self._made_before:
                self._made_before[one] = frozenset(self._direct(one))
            for found in self._made_before[one]:
                if found not in seen:
                    seen.add(found)
                    waiting.append(found)
        return frozenset(seen - {resource})

    def _direct(self, resource: Resource) -> Iterator[Resource]:
        if resource.type in _STACK_TYPES and (child := self.child(resource)):
            yield from self._all_of(child)
        parent = self._parents.get(id(resource.template))
        if parent is not None:
            yield from self._direct_without_children(parent)
        yield from self._direct_without_children(resource)

    def _direct_without_children(self, resource: Resource) -> Iterator[Resource]:
        names = [*resource.depends_on, *referred(resource.raw.get("Properties"))]
        for name in names:
            found = self.find(resource.template, name)
            if found is not None:
                yield found
        for source in self._imported(resource.raw.get("Properties"), resource.template):
            yield from self._all_of(source)

    def _all_of(self, template: Template) -> Iterator[Resource]:
        return (resource for resource in self._resources.values() if resource.template is template)

    def _imported(self, value: Any, template: Template) -> Iterator[Template]:
        """Yield the templates whose outputs a raw value uses."""
        for name, argument in raw_fields(value):
            source: Template | None = None
            if name == "Fn::ImportValue":
                wanted = self.resolve(argument, within=template)
                exported = self.exporting(wanted, self._resolver, to=template)
                source = exported[0] if exported else None
            elif name == "Fn::GetStackOutput":
                source = self.named(text(self.resolve(argument["StackName"], within=template)))
            else:
                yield from self._imported(argument, template)
            if source is not None:
                yield source

    # --- from one template to another ---------------------------------------------------------------------
    def named(self, stack: str) -> Template | None:
        """Return the template of a stack by its name."""
        return next((template for template in self.templates if template.name == stack), None)

    def exporting(self, wanted: Value, resolver: Resolver, *, to: Template) -> tuple[Template, str] | None:
        """Return the template and output that export a name to another template.

        An unknown part of the name may be anything, as long as only one export fits.
        """
        fitting: list[tuple[Template, str]] = []
        for template, output, declared in self._exports:
            if template is to:
                continue
            name = resolver.resolve(declared, template)
            if name == wanted and is_known(wanted):
                return template, output
            if _may_equal(name, wanted):
                fitting.append((template, output))
        return fitting[0] if len(fitting) == 1 else None

    @cached_property
    def _exports(self) -> list[tuple[Template, str, Any]]:
        return [
            (template, name, output["Export"]["Name"])
            for template in self.templates
            for name, output in template.section("Outputs").items()
            if "Export" in output
        ]

    def child(self, resource: Resource) -> Template | None:
        """Return the template of a nested stack, by the name of its file."""
        if resource.type not in _STACK_TYPES:
            return None
        raw: Mapping[str, Any] = resource.raw.get("Properties") or {}
        metadata: Mapping[str, Any] = resource.raw.get("Metadata") or {}
        address = metadata.get("aws:asset:path") or text(
            self.resolve(raw.get("TemplateURL") or raw.get("Location"), within=resource.template)
        )
        name = PurePosixPath(str(address)).name
        return next(
            (one for one in self.templates if one.path.name == name and one is not resource.template), None
        )

    def parent_parameter(self, template: Template, name: str) -> tuple[Any, Template] | None:
        """Return the raw value that a parent stack gives to a parameter, and the parent's template."""
        parent = self._parents.get(id(template))
        if parent is None:
            return None
        properties = cast("Mapping[str, Any]", parent.raw.get("Properties") or {})
        given = cast("Mapping[str, Any]", properties.get("Parameters") or {})
        return (given[name], parent.template) if name in given else None

    @cached_property
    def _parents(self) -> dict[int, Resource]:
        parents: dict[int, Resource] = {}
        self._parents = parents  # set early, because an address that refers to a parameter reads them
        for resource in self._resources.values():
            child = self.child(resource)
            if child is not None and not self._is_nested_in(resource.template, child, parents):
                parents[id(child)] = resource
        return parents

    @staticmethod
    def _is_nested_in(template: Template, other: Template, parents: Mapping[int, Resource]) -> bool:
        """Return whether a template is another one, or nested in it. Files of one name can look so."""
        above: Template | None = template
        while above is not None and above is not other:
            parent = parents.get(id(above))
            above = parent.template if parent else None
        return above is other

    # --- worlds -------------------------------------------------------------------------------------------
    def worlds(self) -> list[Templates]:
        """Return this set once for each possible outcome of its conditions, 64 at most.

        The first has parameters' defaults. If a condition reads a parameter, its other values are worlds too,
        unless the facts give the parameter's value.
        """
        return list(itertools.islice(self._all_worlds(), _MOST_WORLDS))

    @cached_property
    def has_more_worlds(self) -> bool:
        """Whether conditions have more possible outcomes than are checked."""
        return next(itertools.islice(self._all_worlds(), _MOST_WORLDS, None), None) is not None

    @property
    def assumed(self) -> str:
        """The assumptions of this world, for a finding: "Stage is dev"; empty without any."""
        parts = [f"{name} is {value}" for name, value in self._world.assumed.items()]
        parts += [f"{name} is anything else" for name in sorted(self._world.others)]
        parts += [
            f"{name} is {'true' if decided else 'false'}"
            for (_, name), decided in self._world.decided.items()
        ]
        return " and ".join(parts)

    def _all_worlds(self) -> Iterator[Templates]:
        candidates = self._candidates()
        for chosen in itertools.product(*candidates.values()):
            pairs = list(zip(candidates, chosen, strict=True))
            given = {name: value for name, value in pairs if value is not None}
            world = replace(
                self._world,
                given={**self._world.given, **given},
                assumed=given,
                others=frozenset(name for name, value in pairs if value is None),
            )
            made = Templates(self.templates, world=world)
            undecided = made._open_conditions()
            for outcomes in itertools.product((True, False), repeat=len(undecided)):
                decided = dict(zip(undecided, outcomes, strict=True))
                yield Templates(self.templates, world=replace(world, decided=decided)) if decided else made

    def _candidates(self) -> dict[str, list[str | None]]:
        """Return the values to try for each parameter that a condition reads; None for any other value."""
        found: dict[str, list[str | None]] = {}
        allowed: set[str] = set()
        for template in self.templates:
            conditions = list(template.section("Conditions").values())
            for name in dict.fromkeys(referred(conditions)):
                root = self._root(name, template)
                if root is not None:
                    self._add_declared(found, allowed, *root)
            for one, other in equalities(conditions):
                for side, against in ((one, other), (other, one)):
                    self._add_compared(found, side, against, template)
        return {
            name: [*values, *([] if name in allowed else [None])]
            for name, values in sorted(found.items())
            if len(values) > 1 or name not in allowed
        }

    def _root(self, name: str, template: Template) -> tuple[str, Mapping[str, Any]] | None:
        """Return the parameter, maybe of a parent stack, that a value comes from; None if there is none."""
        given = self.parent_parameter(template, name)
        if given is not None:
            raw, parent = given
            return self._root(str(raw["Ref"]), parent) if is_reference(raw) else None
        declared = template.section("Parameters").get(name)
        if not isinstance(declared, Mapping) or name in self._world.given:
            return None
        return name, cast("Mapping[str, Any]", declared)

    @staticmethod
    def _add_declared(
        found: dict[str, list[str | None]], allowed: set[str], name: str, declared: Mapping[str, Any]
    ) -> None:
        is_of_ssm = str(declared.get("Type", "")).startswith("AWS::SSM::Parameter::Value")
        values: list[str | None] = []
        if "Default" in declared and not is_of_ssm:
            values.append(text(declared["Default"]))
        if "AllowedValues" in declared and not is_of_ssm:
            values += [text(value) for value in declared["AllowedValues"]]
            allowed.add(name)
        if values:
            found[name] = list(dict.fromkeys([*found.get(name, []), *values]))

    def _add_compared(
        self, found: dict[str, list[str | None]], side: Any, against: Any, template: Template
    ) -> None:
        value = self.resolve(against, within=template)
        if not is_reference(side) or not is_known(value):
            return
        root = self._root(str(side["Ref"]), template)
        if root is None:
            return
        values = found.setdefault(root[0], [])
        values += [] if text(value) in values or "AllowedValues" in root[1] else [text(value)]

    def _open_conditions(self) -> list[tuple[str, str]]:
        """Return the open conditions, without those that others decide."""
        return [
            (template.name, name)
            for template in self.templates
            for name, declared in template.section("Conditions").items()
            if self._resolver.condition({"Condition": name}, template) is None
            and not set(_conditions_in(declared)) & set(template.section("Conditions"))
        ]


def _conditions_in(declared: Any) -> Iterator[str]:
    """Yield the conditions that a condition refers to."""
    for name, argument in raw_fields(declared):
        if name == "Condition":
            yield str(argument)
        else:
            yield from _conditions_in(argument)


def _may_equal(one: Value, other: Value) -> bool:
    return _fits(one, other) or _fits(other, one)


def _fits(pattern: Value, value: Value) -> bool:
    parts = re.split(r"\$\{[^}]*\}", text(pattern))
    return re.fullmatch(".+".join(map(re.escape, parts)), text(value)) is not None
