"""Every wildcard in every policy has a reason, and every reason here a wildcard."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from tests.stacks.rights.wildcards import EXPLAINED, unexplained, wildcards_of


def test_no_wildcard_of_any_tenant_or_account_lacks_a_reason(
    assembly: Path, assemblies: tuple[Path, Path]
) -> None:
    assert [str(wildcard) for wildcard in unexplained(assembly, assemblies[1])] == []


def test_every_reason_here_explains_a_wildcard(assembly: Path, assemblies: tuple[Path, Path]) -> None:
    found = [*wildcards_of(assembly), *wildcards_of(assemblies[1])]
    assert len(found) > 300
    idle = [
        row
        for row in EXPLAINED
        if not any(
            (row.kind, row.element) == (wildcard.kind, wildcard.element)
            and re.fullmatch(row.pattern, wildcard.pattern)
            for wildcard in found
        )
    ]
    assert idle == []


def test_a_new_wildcard_is_named(assemblies: tuple[Path, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(assemblies[0], tmp_path / "cdk.out")
    (path,) = copy.glob("assembly-Pharmacy/*Orchestrator*.template.json")
    template = json.loads(path.read_text(encoding="utf-8"))
    role = next(one for one in template["Resources"].values() if one["Type"] == "AWS::IAM::Policy")
    role["Properties"]["PolicyDocument"]["Statement"].append(
        {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::somewhere/*"}
    )
    path.write_text(json.dumps(template), encoding="utf-8")
    before = {str(wildcard) for wildcard in unexplained(assemblies[0])}
    added = {
        str(wildcard).partition(": ")[2] for wildcard in unexplained(copy) if str(wildcard) not in before
    }
    assert added == {"Action s3:*", "Resource arn:aws:s3:::somewhere/*"}
