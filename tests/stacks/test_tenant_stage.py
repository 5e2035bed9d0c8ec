"""What a company asks of everything in its accounts reaches every resource: names, paths, boundary, tags."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stacks.validators import StackTemplate, templates_of
from tests.stacks.synthesized import synthesize


@pytest.fixture(scope="module")
def templates(company_assembly: Path) -> list[StackTemplate]:
    tenants = ("Company", "Scribe")
    return [each for each in templates_of(company_assembly) if each.stage in tenants]


def of_type(templates: list[StackTemplate], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for template in templates:
        for logical_id, resource in template.body["Resources"].items():
            if resource["Type"] == kind:
                yield f"{template.stage}/{template.stack}/{logical_id}", resource["Properties"]


def test_every_role_has_the_company_s_boundary_and_path(templates: list[StackTemplate]) -> None:
    roles = dict(of_type(templates, "AWS::IAM::Role"))
    assert len(roles) > 10
    for name, role in roles.items():
        assert "policy/acme-boundary" in str(role["PermissionsBoundary"]), name
        if name.startswith("Company/"):
            assert role["Path"].startswith("/acme/assistant/"), name


def test_every_stack_and_parameter_has_the_company_s_prefix(templates: list[StackTemplate]) -> None:
    whole = str([template.body for template in templates if template.stage == "Company"])
    assert "/acme/company/power" in whole
    assert "/assistant/company/" not in whole.replace("/acme/assistant/company/", "")  # the path of roles


def test_only_the_company_s_folder_of_tenants_is_read(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("schema_version = 9")
    done = synthesize(tmp_path / "out", tenants=str(tmp_path))
    assert done.returncode == 1
    assert "broken.toml" in done.stderr
    assert "Traceback" not in done.stderr
