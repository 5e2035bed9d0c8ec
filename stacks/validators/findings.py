"""One finding, and which row of the table explains it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stacks.policy import Acknowledgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``construct`` is a path below the stage; ``rule`` an id with its validator (``cfn-lint::W3010``)."""

    stage: str
    construct: str
    rule: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StackTemplate:
    """One synthesized template: its stage and stack, and where each logical id came from."""

    stage: str
    stack: str
    path: Path
    body: Mapping[str, Any]

    def construct_of(self, logical_id: str | None) -> str:
        """Return the construct's path below the stage; the stack's own where the resource names none."""
        resource = self.body.get("Resources", {}).get(logical_id, {})
        path = str(resource.get("Metadata", {}).get("aws:cdk:path", ""))
        return path.split("/", 1)[1] if "/" in path else self.stack


def templates_of(assembly: Path) -> Iterator[StackTemplate]:
    """Yield every template of every stage below ``cdk.out``."""
    for manifest in sorted(assembly.glob("assembly-*/manifest.json")):
        artifacts = json.loads(manifest.read_text(encoding="utf-8"))["artifacts"]
        for artifact in artifacts.values():
            if artifact["type"] == "aws:cloudformation:stack":
                stage, stack = artifact["displayName"].split(" ")[0].split("/")[:2]
                path = manifest.parent / artifact["properties"]["templateFile"]
                body = json.loads(path.read_text(encoding="utf-8"))
                yield StackTemplate(stage=stage, stack=stack, path=path, body=body)


def explains(row: Acknowledgement, finding: Finding) -> bool:
    """Say whether the row is about this rule on this construct or above it."""
    below = finding.construct == row.construct or finding.construct.startswith(f"{row.construct}/")
    return below and finding.rule in row.findings
