"""Templates read together: their resources with every reference resolved, also between templates.

::

    templates = Templates.read([Path("cdk.out/assembly-Pharmacy")])
    for world in templates.worlds():
        for listener in world.of("AWS::ElasticLoadBalancingV2::Listener"):
            listener.properties["LoadBalancerArn"]  # Target(<Resource Edge.Nlb>, "Ref")

A property is a plain value, a ``Target`` (an attribute of a resource), a ``Joined`` (text with either in it)
or an ``Unknown``; ``template_checks.values`` reads them. There is a world for each value with which a
condition compares a parameter (an endpoint that is on, and paused), and one for any other value.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from template_checks.resolution import Resolver, World, compared_values
from template_checks.template_files import Template, read_templates
from template_checks.values import Value, raw_fields, referred, text

__all__ = ["Resource", "Template", "Templates"]


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
        for name in [*resource.depends_on, *referred(resource.raw.get("Properties"))]:
            found = self.find(resource.template, name)
            if found is not None:
                yield found
        for source in self._imported(resource.raw.get("Properties"), resource.template):
            yield from (one for one in self._resources.values() if one.template is source)

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
