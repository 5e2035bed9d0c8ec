"""The tables of docs/architecture.md say what the templates say."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from template_checks.templates import Templates
from tests.stacks.synthesized import ROOT, assembly_folder
from tools.reach_tables import rewritten


def test_the_page_s_tables_match_the_templates(assembly: Path) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

    assert page == rewritten(page, Templates.read([assembly_folder(assembly, "pharmacy")])), (
        "Run: make synth && python -m tools.reach_tables cdk.out/assembly-Pharmacy docs/architecture.md"
    )


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="0 places for made: reach"):
        rewritten("no table", Templates([]))
