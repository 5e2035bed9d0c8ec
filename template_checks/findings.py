"""What a check says of the templates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from template_checks.facts import Facts
from template_checks.networks import LoadBalancing, SecurityGroups, VpcView
from template_checks.permissions import Permissions
from template_checks.policies import Policies
from template_checks.templates import Templates
from template_checks.workloads import Workloads

if TYPE_CHECKING:
    from template_checks.templates import Resource


class Status(StrEnum):
    """From worst to best."""

    REFUSED = "refused"
    """The mistake is there."""
    NOT_PROVEN = "not proven"
    """It may be there: something that decides it stands neither in the templates nor in the facts."""
    PASSED = "passed"
    NOT_APPLICABLE = "not applicable"
    """Nothing in the templates could make it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at, and what came of it. ``code`` is stable (``nlb-idle-timeout``)."""

    status: Status
    code: str
    where: str = ""
    """``<stack>.<logical id>``; empty where it is about all templates together."""
    property: str = ""
    message: str = ""
    mend: str = ""
    """What to do about it."""


def refused(resource: Resource | None, code: str, *, at: str, message: str, mend: str) -> Finding:
    """Return the finding that a mistake is there."""
    return Finding(
        status=Status.REFUSED, code=code, where=where(resource), property=at, message=message, mend=mend
    )


def not_proven(resource: Resource | None, code: str, *, at: str, message: str, mend: str) -> Finding:
    """Return the finding that the templates and facts do not tell; ``mend`` says what would."""
    return Finding(
        status=Status.NOT_PROVEN, code=code, where=where(resource), property=at, message=message, mend=mend
    )


def passed(resource: Resource | None, code: str) -> Finding:
    """Return the finding that a resource was looked at and is right."""
    return Finding(status=Status.PASSED, code=code, where=where(resource))


def where(resource: Resource | None) -> str:
    """Return how a finding names a resource."""
    return f"{resource.template.name}.{resource.logical_id}" if resource else ""


# One of the twenty-three mistakes, and the check that refuses it.


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
