"""The alarms' entries of docs/runbook.md: what happened, where to look, how to fix it.

An alarm's description is made from its entry and links to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from stacks.tenant import ROOT

PAGE = ROOT / "docs" / "runbook.md"
_ALARMS = re.compile(r"<!-- alarms:.*?-->\n(.*)<!-- end of alarms -->", re.DOTALL)
_ENTRY = re.compile(r"^#### (.+)\n\n(.+)\n\n\*\*Look\.\*\* .+\n\n\*\*Fix\.\*\* .+$", re.MULTILINE)


@cache
def entries() -> Mapping[str, str]:
    """Return what happened by anchor, the heading's address as GitHub and GitLab make it. An entry without
    its three paragraphs is not among them."""
    alarms = _ALARMS.search(PAGE.read_text(encoding="utf-8"))
    found = _ENTRY.findall(alarms[1]) if alarms else []
    return {title.lower().replace(" ", "-"): happened for title, happened in found}


def link(anchor: str) -> str:
    return f"docs/runbook.md#{anchor}"


def described(anchor: str) -> str:
    """Return the description of an alarm: what happened, and a link to what to do. Raises KeyError without
    an entry."""
    return f"{entries()[anchor]} What to do: {link(anchor)}"
