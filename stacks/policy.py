"""The one table of exceptions: what a validator finds, where, and why it stays.

A row names a construct by its path below the stage, a finding by its full id, the reason, and the decision
record where there was a choice. Rows stand beside the stack; ``stacks.validators.TABLE`` is all of them.
A row that explains nothing is an error: it is held against the report's ``suppressedViolations``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import aws_cdk as cdk
from constructs import IConstruct


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """``construct`` is a path below the stage (``Network/Vpc/FlowLog``); its descendants are covered too.

    ``findings`` are ids with their pack: ``AwsSolutions::AwsSolutions-IAM5[Resource::*]``,
    ``HIPAA.Security::HIPAA.Security-LambdaDLQ``, ``cfn-lint::W3005``, ``checkov::CKV_AWS_18``. All of a row
    have the one reason. Where an id holds what differs by tenant, ``{account}``, ``{region}`` and ``{stage}``
    (``assistant-pharmacy``) stand for it.
    """

    construct: str
    findings: tuple[str, ...]
    reason: str
    decision: str | None = None
    """``0015-name-of-record`` under docs/decisions."""


_BY_CDK_NAG = ("AwsSolutions::", "HIPAA.Security::")


def acknowledge(stage: cdk.Stage, rows: Iterable[Acknowledgement]) -> list[Acknowledgement]:
    """Acknowledge the findings of every row whose construct is in the stage; return those rows.

    A row whose construct this tenant does not have (no reach entry, no power schedule) is skipped.
    """
    applied: list[Acknowledgement] = []
    for row in rows:
        construct = _find(stage, row.construct)
        if construct is None:
            continue
        applied.append(row)
        for finding in row.findings:
            if finding.startswith(_BY_CDK_NAG):
                cdk.Validations.of(construct).acknowledge(
                    cdk.Acknowledgment(id=_of_stage(finding, stage), reason=_reason(row))
                )
    return applied


def _reason(row: Acknowledgement) -> str:
    return f"{row.reason} (docs/decisions/{row.decision}.md)" if row.decision else row.reason


_DIFFERING = ("account", "region", "stage")


def pattern_of(finding: str) -> re.Pattern[str]:
    """Return what matches the finding's id in whatever stage."""
    pattern = re.escape(finding)
    for name in _DIFFERING:
        pattern = pattern.replace(re.escape(f"{{{name}}}"), "[^:/]+")
    return re.compile(pattern)


def _of_stage(finding: str, stage: cdk.Stage) -> str:
    values = (stage.account, stage.region, stage.stage_name)
    for name, value in zip(_DIFFERING, values, strict=True):
        finding = finding.replace(f"{{{name}}}", value or "")
    return finding


def _find(stage: cdk.Stage, path: str) -> IConstruct | None:
    found: IConstruct | None = stage
    for part in path.split("/"):
        found = None if found is None else found.node.try_find_child(part)
    return found
