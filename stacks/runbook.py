"""What to do when an alarm goes off: the one source of every alarm's words.

An alarm's description is made from its entry and links to it; ``python -m stacks.runbook`` writes the entries
into docs/runbook.md, and a test holds the page, the table and the templates against each other.
"""

from __future__ import annotations

import sys

from stacks.runbook_entries import ENTRIES, Entry
from stacks.tenant import ROOT

PAGE = ROOT / "docs" / "runbook.md"
BEGIN = "<!-- alarms, made by python -m stacks.runbook -->"
END = "<!-- end of alarms -->"


def entry(anchor: str) -> Entry:
    """Return the entry of an alarm. Raises KeyError: an alarm without one is a mistake of ours."""
    return _BY_ANCHOR[anchor]


def link(anchor: str) -> str:
    return f"docs/runbook.md#{anchor}"


def described(anchor: str) -> str:
    """Return the description of an alarm: what happened, and where it is said what to do."""
    return f"{entry(anchor).happened} What to do: {link(anchor)}"


def markdown() -> str:
    """Return the entries as the page has them, in the order of the table."""
    parts: list[str] = []
    group = ""
    for one in ENTRIES:
        if one.group != group:
            group = one.group
            parts.append(f"### {group}\n")
        parts.append(f"#### {one.title}\n\n{one.happened}\n\n**Look.** {one.look}\n\n**Mend.** {one.mend}\n")
    return "\n".join(parts)


def with_alarms(page: str) -> str:
    """Return the page with its alarms written anew."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{markdown()}{END}{tail}"


_BY_ANCHOR = {one.anchor: one for one in ENTRIES}


def main() -> None:
    PAGE.write_text(with_alarms(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
