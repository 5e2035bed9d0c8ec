"""What a check reads (``Deployment``), what it is (``Mistake``), and what it reports (``Finding``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from pydantic import BaseModel, ConfigDict

from template_checks.facts import Facts
from template_checks.networks import LoadBalancing, SecurityGroups, Vpcs
from template_checks.permissions import Permissions
from template_checks.policies import Policies
from template_checks.templates import Resource, Templates
from template_checks.workloads import Calls, Workloads


class Status(StrEnum):
    """From worst to best."""

    REFUSED = "refused"
    """The mistake is there."""
    NOT_PROVEN = "not proven"
    """The mistake may be there: something that decides it is neither in the templates nor in the facts."""
    PASSED = "passed"
    NOT_APPLICABLE = "not applicable"
    """No resource of the templates can make the mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result for one resource. ``code`` is stable (``nlb-idle-timeout``)."""

    status: Status
    code: str
    where: str = ""
    """``<stack>.<logical id>``; empty if it is about all templates together."""
    property: str = ""
    message: str = ""
    fix: str = ""
    """What to do about it."""


def judge(
    verdict: bool | None, resource: Resource, code: str, *, at: str = "", message: str = "", fix: str = ""
) -> Finding:
    """Return a finding by a verdict: True passed, False refused, None not proven."""
    where = f"{resource.template.name}.{resource.logical_id}"
    if verdict:
        return Finding(status=Status.PASSED, code=code, where=where)
    status = Status.REFUSED if verdict is False else Status.NOT_PROVEN
    return Finding(status=status, code=code, where=where, property=at, message=message, fix=fix)


def refused(resource: Resource, code: str, *, at: str, message: str, fix: str) -> Finding:
    """Return the finding that a mistake is there."""
    return judge(False, resource, code, at=at, message=message, fix=fix)


def not_proven(resource: Resource, code: str, *, at: str, message: str, fix: str) -> Finding:
    """Return the finding that templates and facts do not decide it; ``fix`` says what would."""
    return judge(None, resource, code, at=at, message=message, fix=fix)


def passed(resource: Resource, code: str) -> Finding:
    """Return the finding that a resource is right."""
    return judge(True, resource, code)


def or_passed(findings: Iterable[Finding], resource: Resource, code: str) -> Iterator[Finding]:
    """Yield the findings; without any, that the resource is right."""
    found = list(findings)
    yield from found or [passed(resource, code)]


def unknown_parameter(resource: Resource, code: str, *, at: str, message: str = "") -> Finding:
    """Return the finding that a parameter's unknown value decides it."""
    return not_proven(resource, code, at=at, message=message or f"Its {at} is unknown.", fix=GIVE_PARAMETER)


GIVE_PARAMETER = "Give the parameter a default, or its value in the facts: parameters."
GIVE_TEMPLATE = "Add its template to the same check."


def worst(findings: Iterable[Finding]) -> Status | None:
    """Return the worst status; None without findings."""
    found = {finding.status for finding in findings}
    return next((status for status in Status if status in found), None)


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
    def vpcs(self) -> Vpcs:
        return Vpcs(self.templates)

    @cached_property
    def workloads(self) -> Workloads:
        return Workloads(self.templates)

    @cached_property
    def calls(self) -> Calls:
        return Calls(self.templates, policies=self.policies, workloads=self.workloads)


class Mistake(BaseModel):
    """One mistake, with the check that refuses it.

    ``check`` yields a finding for everything that it reads, and nothing if nothing can make the mistake.
    ``parts`` are the codes of its findings with what each refuses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    title: str
    parts: Mapping[str, str]
    why: str
    """What AWS does with it."""
    fix: str
    absent: str
    """Why it does not apply if there is nothing to check."""
    facts: str = ""
    """What the facts file must contain to rule the mistake out."""
    check: Callable[[Deployment], Iterator[Finding]]

    @property
    def code(self) -> str:
        """Stable, with the number in it: ``M06``."""
        return f"M{self.number:02}"
