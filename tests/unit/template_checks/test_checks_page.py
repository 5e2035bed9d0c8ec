from __future__ import annotations

import re

from template_checks.facts import Facts
from template_checks.mistakes import all_mistakes
from tools.checks_page import PAGE, with_mistakes


def test_the_page_lists_the_mistakes_of_the_registry() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_mistakes(page), "run: python -m tools.checks_page"


def test_the_page_explains_every_fact() -> None:
    rows = re.findall(r"^\| (`.+?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    explained = set(re.findall(r"\w+", " ".join(rows)))
    assert set(Facts.model_fields) <= explained


def test_there_are_twenty_three_by_number_and_no_code_twice() -> None:
    assert [mistake.number for mistake in all_mistakes()] == list(range(1, 24))
    codes = [code for mistake in all_mistakes() for code in mistake.parts]
    assert len(codes) == len(set(codes))
