"""The twenty-three mistakes of templates, checked for every possible outcome of conditions."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from template_checks.facts import Facts
from template_checks.findings import Deployment, Finding, Mistake, Status, worst
from template_checks.mistakes import (
    certificates,
    containers,
    edge,
    logs,
    model_instances,
    models,
    plaintext,
    search_domains,
    vpc,
)
from template_checks.templates import Templates

__all__ = ["Mistake", "Report", "Verdict", "all_mistakes", "check", "check_templates"]


@cache
def all_mistakes() -> tuple[Mistake, ...]:
    """Return the mistakes by number: their words are in ``mistakes.toml``, their checks in the modules."""
    topics = (edge, certificates, search_domains, vpc, model_instances, containers, models, logs, plaintext)
    checks = {number: check for topic in topics for number, check in topic.CHECKS.items()}
    rows = tomllib.loads(Path(__file__).with_name("mistakes.toml").read_text(encoding="utf-8"))["mistake"]
    return tuple(Mistake.model_validate({**row, "check": checks[row["number"]]}) for row in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result for one mistake. Findings that passed are only counted."""

    mistake: Mistake
    findings: tuple[Finding, ...]
    looked_at: int

    @property
    def status(self) -> Status:
        """The worst of all findings."""
        return worst(self.findings) or (Status.PASSED if self.looked_at else Status.NOT_APPLICABLE)

    @property
    def reason(self) -> str:
        """Why it is not applicable; empty otherwise."""
        return self.mistake.absent if self.status is Status.NOT_APPLICABLE else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was checked, and the verdicts by number of the mistake."""

    templates: tuple[str, ...]
    resources: int
    worlds: int
    """Possible outcomes of conditions on unknown parameters; all were checked."""
    verdicts: tuple[Verdict, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was refused and everything proven."""
        return all(verdict.status in (Status.PASSED, Status.NOT_APPLICABLE) for verdict in self.verdicts)

    def count(self, status: Status) -> int:
        """Return the number of mistakes with a status."""
        return sum(verdict.status is status for verdict in self.verdicts)


def check(paths: Sequence[Path], *, facts: Facts) -> Report:
    """Check templates (files, folders, a cdk.out) for every mistake.

    Raises InvalidInputError naming a file that cannot be read.
    """
    templates = Templates.read(paths, parameters=facts.parameters, account=facts.account, region=facts.region)
    return check_templates(templates, facts=facts)


def check_templates(
    templates: Templates, *, facts: Facts, mistakes: Sequence[Mistake] | None = None
) -> Report:
    """Check templates that are already read for every mistake, or for some of them."""
    worlds = templates.worlds()
    deployments = [Deployment(templates=world, facts=facts) for world in worlds]
    return Report(
        templates=tuple(template.name for template in templates.templates),
        resources=len(worlds[0].of()),
        worlds=len(worlds),
        verdicts=tuple(
            _verdict(mistake, deployments, is_cut=templates.has_more_worlds)
            for mistake in (all_mistakes() if mistakes is None else mistakes)
        ),
    )


def _verdict(mistake: Mistake, deployments: Sequence[Deployment], *, is_cut: bool) -> Verdict:
    found: dict[Finding, str] = {}
    """Each finding, with what is assumed in the first world that has it."""
    for deployment in deployments:
        for finding in mistake.check(deployment):
            found.setdefault(finding, deployment.templates.assumed)
    if is_cut and found:
        found[_TOO_MANY_WORLDS] = ""
    usual = ("", deployments[0].templates.assumed)
    findings = [
        finding if assumed in usual else replace(finding, message=f"{finding.message} So where {assumed}.")
        for finding, assumed in found.items()
        if finding.status is not Status.PASSED
    ]
    passed = {finding.where for finding in found if finding.status is Status.PASSED}
    return Verdict(mistake=mistake, findings=tuple(findings), looked_at=len(passed))


_TOO_MANY_WORLDS = Finding(
    status=Status.NOT_PROVEN,
    code="too-many-ways",
    property="Conditions",
    message="Conditions have more possible outcomes than are checked.",
    fix="Give the values that count in the facts: parameters.",
)
