"""The verdict of one check on one small template."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

from template_checks.facts import Facts
from template_checks.findings import Status
from template_checks.mistakes import check

REFUSED, PASSED, OPEN, ABSENT = Status.REFUSED, Status.PASSED, Status.NOT_PROVEN, Status.NOT_APPLICABLE


def verdict(folder: Path, number: int, resources: str, **facts: Any) -> Status:
    """Return what comes of a mistake for a template of these resources (YAML)."""
    text = "Resources:\n" + "".join(f"  {line}\n" for line in dedent(resources).strip().splitlines())
    (folder / "it.yaml").write_text(text, encoding="utf-8")
    report = check([folder / "it.yaml"], facts=Facts.model_validate(facts))
    return report.verdicts[number - 1].status
