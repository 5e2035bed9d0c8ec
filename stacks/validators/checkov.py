"""checkov, in an environment of its own: it pins an old boto3."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from assistant.domain.errors import ConfigurationError
from stacks.tenant import ROOT
from stacks.validators.findings import Finding, StackTemplate

COMMAND = ROOT / "build" / "checkov" / "bin" / "checkov"
_LIMIT_S = 300
_OPTIONS = ("--skip-download", "--framework", "cloudformation", "--quiet", "--compact", "--soft-fail")


def run_checkov(templates: Sequence[StackTemplate]) -> list[Finding]:
    """Return what it finds. Raises ConfigurationError when it does not run."""
    if not COMMAND.exists():
        raise ConfigurationError(f"{COMMAND}: checkov is not installed; run make setup-checkov.")
    named = [argument for template in templates for argument in ("--file", str(template.path))]
    done = subprocess.run(
        [str(COMMAND), *_OPTIONS, "--output", "json", *named],
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    try:
        report = json.loads(done.stdout)
        failed = report.get("results", {}).get("failed_checks", [])
        broken = report.get("summary", report).get("parsing_errors", 0)
    except (ValueError, AttributeError):
        raise ConfigurationError(f"checkov failed: {done.stderr.strip()[-500:]}") from None
    if broken:
        raise ConfigurationError(f"checkov could not read {broken} templates.")
    by_name = {template.path.name: template for template in templates}
    return [_finding(item, by_name[Path(item["file_path"]).name]) for item in failed]


def _finding(item: dict[str, str], template: StackTemplate) -> Finding:
    return Finding(
        stage=template.stage,
        construct=template.construct_of(item["resource"].rpartition(".")[2]),
        rule=f"checkov::{item['check_id']}",
        message=item["check_name"],
    )
