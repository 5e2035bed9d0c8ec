"""``docs/checks.md``: its list of mistakes, made from the registry itself.

``python -m tools.checks_page`` writes it; a test finds drift.
"""

from __future__ import annotations

import re
from pathlib import Path

from template_checks.mistakes import Mistake, all_mistakes

PAGE = Path(__file__).parents[1] / "docs" / "checks.md"
_BLOCK = re.compile(r"(<!-- mistakes,.*? -->\n).*?(<!-- end -->)", re.DOTALL)


def with_mistakes(page: str) -> str:
    """Return the page with a new list between its markers."""
    made, count = _BLOCK.subn(lambda found: f"{found[1]}{_sections()}{found[2]}", page)
    if count != 1:
        raise ValueError(f"the page has {count} places for the mistakes")
    return made


def _sections() -> str:
    return "".join(f"{_section(mistake)}\n" for mistake in all_mistakes())


def _section(mistake: Mistake) -> str:
    lines = [f"### {mistake.code} {mistake.title}", ""]
    lines += [f"- `{code}`: {what}." for code, what in mistake.parts.items()]
    lines += ["", f"**Why.** {mistake.why}", "", f"**Fix.** {mistake.fix}", ""]
    if mistake.facts:
        lines += [f"**Facts.** {mistake.facts}.", ""]
    lines += [f"Not applicable: {mistake.absent}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(with_mistakes(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
