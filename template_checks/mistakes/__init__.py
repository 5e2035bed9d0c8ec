"""The twenty-three template mistakes, each with the check that refuses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from template_checks.facts import Facts
from template_checks.findings import Deployment, Finding, Mistake, Status
from template_checks.mistakes import (
    capture_and_log_keys,
    edge_listeners,
    edge_paths,
    endpoint_policies,
    endpoints,
    fargate,
    functions,
    hops,
    images,
    local_disks,
    log_buckets,
    model_sources,
    names_dialled,
    sagemaker_updates,
    sagemaker_variants,
    search_domains,
    zones,
)
from template_checks.templates import Templates

__all__ = ["MISTAKES", "Mistake"]


MISTAKES: tuple[Mistake, ...] = tuple(
    sorted(
        (
            *edge_paths.MISTAKES,
            *edge_listeners.MISTAKES,
            *names_dialled.MISTAKES,
            *zones.MISTAKES,
            *endpoints.MISTAKES,
            *endpoint_policies.MISTAKES,
            *sagemaker_variants.MISTAKES,
            *images.MISTAKES,
            *model_sources.MISTAKES,
            *sagemaker_updates.MISTAKES,
            *capture_and_log_keys.MISTAKES,
            *search_domains.MISTAKES,
            *log_buckets.MISTAKES,
            *fargate.MISTAKES,
            *functions.MISTAKES,
            *hops.MISTAKES,
            *local_disks.MISTAKES,
        ),
        key=lambda mistake: mistake.number,
    )
)
"""By number."""


# All checks over one set of templates, in every way in which their open conditions can turn out.


_WORST_FIRST = (Status.REFUSED, Status.NOT_PROVEN, Status.PASSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one mistake. Findings that passed are counted only."""

    mistake: Mistake
    findings: tuple[Finding, ...]
    looked_at: int

    @property
    def status(self) -> Status:
        """The worst of all that was looked at."""
        for status in _WORST_FIRST:
            if any(finding.status is status for finding in self.findings):
                return status
        return Status.PASSED if self.looked_at else Status.NOT_APPLICABLE

    @property
    def reason(self) -> str:
        """Why it is not applicable; empty otherwise."""
        return self.mistake.absent if self.status is Status.NOT_APPLICABLE else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was checked, and what came of it, by number of the mistake."""

    templates: tuple[str, ...]
    resources: int
    worlds: int
    """In how many ways conditions on unknown parameters can turn out; all were checked."""
    verdicts: tuple[Verdict, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was refused and nothing left unproven."""
        return all(verdict.status in (Status.PASSED, Status.NOT_APPLICABLE) for verdict in self.verdicts)

    def count(self, status: Status) -> int:
        """Return how many mistakes came out so."""
        return sum(verdict.status is status for verdict in self.verdicts)


def check(paths: Sequence[Path], *, facts: Facts) -> Report:
    """Hold templates (files, folders, a cdk.out) against every mistake.

    Raises ConfigurationError naming a file that cannot be read.
    """
    templates = Templates.read(paths, parameters=facts.parameters, account=facts.account, region=facts.region)
    return check_templates(templates, facts=facts)


def check_templates(templates: Templates, *, facts: Facts, mistakes: Sequence[Mistake] = MISTAKES) -> Report:
    """Hold templates that are read already against every mistake, or against some of them."""
    worlds = templates.worlds()
    deployments = [Deployment(templates=world, facts=facts) for world in worlds]
    return Report(
        templates=tuple(template.name for template in templates.templates),
        resources=len({resource for world in worlds[:1] for resource in world.of()}),
        worlds=len(worlds),
        verdicts=tuple(
            _verdict(mistake, deployments, is_cut=templates.has_more_worlds) for mistake in mistakes
        ),
    )


def _verdict(mistake: Mistake, deployments: Sequence[Deployment], *, is_cut: bool) -> Verdict:
    found: dict[Finding, str] = {}
    """What was found, with what is assumed where it was found first."""
    for deployment in deployments:
        for finding in mistake.check(deployment):
            found.setdefault(finding, deployment.templates.assumed)
    if is_cut and found:
        found[_NOT_ALL_WAYS] = ""
    passed = [finding for finding in found if finding.status is Status.PASSED]
    first = deployments[0].templates.assumed if deployments else ""
    return Verdict(
        mistake=mistake,
        findings=tuple(
            finding
            if assumed in ("", first)
            else replace(finding, message=f"{finding.message} So where {assumed}.")
            for finding, assumed in found.items()
            if finding.status is not Status.PASSED
        ),
        looked_at=len({finding.where for finding in passed}),
    )


_NOT_ALL_WAYS = Finding(
    status=Status.NOT_PROVEN,
    code="too-many-ways",
    property="Conditions",
    message="Conditions can turn out in more ways than are looked at.",
    mend="Say the values that count in the facts: parameters.",
)
