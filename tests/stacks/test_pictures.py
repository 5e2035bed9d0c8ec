"""The page's pictures are those of the templates, and say what the templates say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assistant.cli.tenant_templates import prove
from assistant.domain.errors import ConfigurationError
from template_checks.templates import Templates
from tests.stacks.synthesized import ROOT, assembly_folder
from tools.architecture_pictures import network_picture, rewritten, stacks_picture


@pytest.fixture(scope="module")
def pharmacy(assembly: Path) -> Templates:
    return Templates.read([assembly_folder(assembly, "pharmacy")])


def test_the_page_s_pictures_match_the_templates(pharmacy: Templates) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

    assert page == rewritten(page, pharmacy), (
        "Draw it anew: make synth && python -m tools.architecture_pictures cdk.out/assembly-Pharmacy "
        "docs/architecture.md"
    )


def test_every_allowed_path_is_an_arrow(pharmacy: Templates) -> None:
    report = prove(pharmacy)

    arrows = network_picture(pharmacy, report).count("-->")

    one_for_both_gateways = sum(row.target == "DynamoDB" for row in report.rows)
    assert arrows == len(report.rows) - one_for_both_gateways


def test_every_arrow_connects_two_nodes(pharmacy: Templates) -> None:
    picture = network_picture(pharmacy, prove(pharmacy))

    drawn = set(re.findall(r'^ +(\w+)[\[(]+"', picture, re.MULTILINE))
    ends = {end for pair in re.findall(r"^ +(\w+) -->\|[^|]+\| (\w+)", picture, re.MULTILINE) for end in pair}
    assert ends == drawn


def test_an_indirect_dependency_has_no_arrow(pharmacy: Templates) -> None:
    picture = stacks_picture(pharmacy)

    assert "Keys --> Network" in picture
    assert "Keys --> Data" not in picture
    assert "Network --> Orchestrator" not in picture


@pytest.mark.parametrize("page", ["<!-- drawn: network -->\n", "<!-- drawn: sky -->\n<!-- /drawn: sky -->"])
def test_a_marker_without_a_picture_is_refused(page: str) -> None:
    with pytest.raises(ConfigurationError, match="has no end, or nothing draws it"):
        rewritten(page, Templates([]))
