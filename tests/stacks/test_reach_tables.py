"""The tables of docs/architecture.md say what the templates say."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from template_checks.templates import Templates
from tests.stacks.synthesized import ROOT, assembly_folder
from tools.pages import with_reach


def test_the_page_s_tables_match_the_templates(assembly: Path) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

    assert page == with_reach(page, Templates.read([assembly_folder(assembly, "pharmacy")])), (
        "run: make synth && python -m tools.pages"
    )


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="0 places for made: reach"):
        with_reach("no table", Templates([]))
