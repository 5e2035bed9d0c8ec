"""docs/hipaa.md has a row for every service that the templates use, and for no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stacks.synthesized import ROOT

PAGE = ROOT / "docs" / "hipaa.md"


def table(heading: str) -> list[list[str]]:
    """The rows of the page's first table under a heading, cells stripped."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def services_of(folder: Path) -> Iterator[str]:
    """The first two parts of every resource type (``AWS::S3``) of every template below the folder."""
    for path in folder.glob("**/*.template.json"):
        for body in json.loads(path.read_text(encoding="utf-8"))["Resources"].values():
            yield "::".join(body["Type"].split("::")[:2])


@pytest.fixture(scope="module")
def used(assembly: Path) -> set[str]:
    """Services of all tenants', the account's and the care side's templates."""
    return {re.sub(r"V2$", "", one) for one in services_of(assembly) if not one.startswith("Custom::")}


def test_the_services_of_the_templates_have_a_row_and_no_other(used: set[str]) -> None:
    assert {row[0].strip("`") for row in table("Services")} == used, "say in docs/hipaa.md which are eligible"


def test_services_with_patients_data_have_a_source_for_their_eligibility() -> None:
    for name, _, data, eligible, source in table("Services"):
        if not data.startswith("no"):
            assert eligible == "yes", name
        assert (eligible == "yes") == bool(source), name


def test_every_file_and_test_of_a_control_exists() -> None:
    for control, _, where, held, duty in table("Controls"):
        for path in re.findall(r"`([^`]+)`", f"{where} {held}"):
            assert (ROOT / path).exists(), f"{control}: {path}"
        assert duty, control
        if duty.startswith(("ours", "both")):
            assert where, control
            assert held, control
