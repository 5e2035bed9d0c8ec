"""One of the twenty-three mistakes, and the check that refuses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from template_checks.facts import Facts
from template_checks.findings import Finding
from template_checks.load_balancing import LoadBalancing
from template_checks.permissions import Permissions
from template_checks.policies import Policies
from template_checks.security_groups import SecurityGroups
from template_checks.templates import Templates
from template_checks.vpc import VpcView
from template_checks.workloads import Workloads


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What a check reads: the templates in one world, the facts, and views of the templates."""

    templates: Templates
    facts: Facts = field(default_factory=Facts)

    @cached_property
    def groups(self) -> SecurityGroups:
        return SecurityGroups(self.templates)

    @cached_property
    def balancing(self) -> LoadBalancing:
        return LoadBalancing(self.templates)

    @cached_property
    def policies(self) -> Policies:
        return Policies(self.templates)

    @cached_property
    def permissions(self) -> Permissions:
        return Permissions(policies=self.policies)

    @cached_property
    def vpcs(self) -> VpcView:
        return VpcView(self.templates)

    @cached_property
    def workloads(self) -> Workloads:
        return Workloads(self.templates)


Check = Callable[[Deployment], Iterator[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """``check`` yields a finding for everything it looks at; nothing where nothing could make the mistake.

    ``parts`` are the codes of its findings with what each refuses.
    """

    number: int
    title: str
    parts: Mapping[str, str]
    why: str
    """What AWS does with it."""
    mend: str
    absent: str
    """Why it does not apply where there is nothing to look at."""
    facts: str = ""
    """What the facts file must tell, for the mistake to be ruled out."""
    check: Check

    @property
    def code(self) -> str:
        """Stable, with the number in it: ``M06``."""
        return f"M{self.number:02}"
