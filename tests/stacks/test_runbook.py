"""Every alarm has an entry in the runbook, and every entry an alarm."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from stacks.tenant_stack import PAGE, described, entries
from tests.stacks.synthesized import assembly_folder, templates_in

TENANTS = ("pharmacy", "clinic", "sandbox")
_OF_THE_BUDGET = "budget-exceeded"
"""A budget reports it, not an alarm."""
_OPTIONAL = {
    *("system-secret-old", "break-glass-used", "a-source-is-not-read"),
    *("canary-failing", "canary-slow"),
}
"""Of a tenant whose file names break-glass roles, a connector or a candidate; none of the committed ones
does."""


def alarms(assembly: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for tenant in TENANTS:
        for stack, template in templates_in(assembly_folder(assembly, tenant)).items():
            for name, body in template["Resources"].items():
                if body["Type"] in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"):
                    yield stack, name, body["Properties"]


def test_every_alarm_of_a_tenant_links_to_its_entry(assembly: Path) -> None:
    astray = {
        f"{stack}/{name}: {properties.get('AlarmDescription')}"
        for stack, name, properties in alarms(assembly)
        if properties.get("AlarmDescription", "").rpartition("docs/runbook.md#")[2] not in entries()
    }

    assert not astray


def test_every_entry_has_an_alarm(assembly: Path) -> None:
    told = {properties["AlarmDescription"].rpartition("#")[2] for _, _, properties in alarms(assembly)}

    assert entries().keys() - told <= _OPTIONAL | {_OF_THE_BUDGET}


def test_missing_data_raises_no_alarm_but_that_of_a_task_that_must_run(assembly: Path) -> None:
    missing = {(entry_of(body), body["TreatMissingData"]) for _, _, body in alarms(assembly)}
    assert {entry for entry, treated in missing if treated != "notBreaching"} == {"sets-not-made"}


def entry_of(alarm: Mapping[str, Any]) -> str:
    return alarm["AlarmDescription"].rpartition("#")[2]


def test_every_entry_has_its_three_paragraphs() -> None:
    headings = re.findall(r"^#### (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert [heading.lower().replace(" ", "-") for heading in headings] == list(entries())


def test_every_anchor_is_a_unique_heading() -> None:
    headings = re.findall(r"^#+ (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    anchors = [re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings]

    assert len(anchors) == len(set(anchors))
    assert entries().keys() <= set(anchors)


def test_links_within_the_page_have_a_target() -> None:
    page = PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors


def test_an_alarm_without_an_entry_is_refused() -> None:
    with pytest.raises(KeyError):
        described("nobody-wrote-this")
