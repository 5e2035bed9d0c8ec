"""cfn-lint: every template against CloudFormation's own schemas of the stage's region, offline."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assistant.domain.errors import ConfigurationError
from stacks.validators.findings import Finding, StackTemplate

_LIMIT_S = 300


def run_cfn_lint(templates: Sequence[StackTemplate]) -> list[Finding]:
    """Return what it finds. Raises ConfigurationError when it does not run."""
    by_path = {str(template.path): template for template in templates}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("cfn-lint")), "--format", "json", "--", *by_path],
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if done.returncode & ~0b1110:  # 2 errors, 4 warnings, 8 remarks; 1 is its own failure
        raise ConfigurationError(f"cfn-lint failed: {done.stderr.strip()[-500:]}")
    return [_finding(item, by_path[item["Filename"]]) for item in json.loads(done.stdout or "[]")]


def _finding(item: Mapping[str, Any], template: StackTemplate) -> Finding:
    match item["Location"].get("Path"):
        case ["Resources", str(logical_id), *_]:
            construct = template.construct_of(logical_id)
        case _:
            construct = template.stack
    return Finding(
        stage=template.stage,
        construct=construct,
        rule=f"cfn-lint::{item['Rule']['Id']}",
        message=str(item["Message"]),
    )
