"""Every alarm has an entry in the runbook, and every entry an alarm."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stacks.tenant_stack import PAGE, entries
from tests.stacks.synthesized import assembly_folder, templates_in
from tests.stacks.values import description_of, entry_of

TENANTS = ("pharmacy", "clinic", "sandbox")
_OF_THE_BUDGET = "budget-exceeded"
"""A budget reports it, not an alarm."""
MOST_CHARACTERS = 1024
"""Of an alarm's description (PutMetricAlarm, Amazon CloudWatch API reference)."""
_OPTIONAL = {
    *("system-secret-old", "break-glass-used", "a-source-is-not-read"),
}
"""Of a tenant whose file names break-glass roles, a connector; none of the committed ones
does."""


def alarms(assembly: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for tenant in TENANTS:
        for stack, template in templates_in(assembly_folder(assembly, tenant)).items():
            for name, body in template["Resources"].items():
                if body["Type"] in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"):
                    yield stack, name, body["Properties"]


def test_every_alarm_of_a_tenant_names_its_entry(assembly: Path) -> None:
    astray = {f"{stack}/{name}" for stack, name, body in alarms(assembly) if entry_of(body) not in entries()}

    assert not astray


def test_every_alarm_says_how_urgent_it_is_whose_and_where_to_look(assembly: Path) -> None:
    for _, name, body in alarms(assembly):
        text, entry = description_of(body), entries()[entry_of(body)]
        assert f"Severity: {entry.severity}. Owner: {entry.owner}. Logs Insights, " in text, name
        assert f": {entry.query} " in text, name
        # A reference as JSON is longer than the group's name that stands for it.
        assert len(text) <= MOST_CHARACTERS, name


def test_a_page_goes_to_its_own_topic(assembly: Path) -> None:
    for stack, name, body in alarms(assembly):
        if stack == "Observability":
            topic = "PageTopic" if entries()[entry_of(body)].severity == "page" else "AlarmTopic"
            (told,) = body["AlarmActions"]
            assert body["OKActions"] == [told], name
            assert told["Ref"].startswith(topic), name


def test_the_link_opens_a_page_that_has_the_entry(assembly: Path) -> None:
    """Without a page of the company's own, it is the tenant's dashboard."""
    for tenant in TENANTS:
        stacks = templates_in(assembly_folder(assembly, tenant))
        (page,) = [
            body["Properties"]
            for body in stacks["Observability"]["Resources"].values()
            if body["Type"] == "AWS::CloudWatch::Dashboard"
        ]
        shown = json.dumps(page["DashboardBody"])
        for body in stacks["Observability"]["Resources"].values():
            if body["Type"] == "AWS::CloudWatch::Alarm":
                text = description_of(body["Properties"])
                assert text.endswith(f"region=us-east-1#dashboards/dashboard/{page['DashboardName']}")
                assert f"## {entries()[entry_of(body['Properties'])].title}" in shown


def test_every_entry_has_an_alarm(assembly: Path) -> None:
    told = {entry_of(properties) for _, _, properties in alarms(assembly)}

    assert entries().keys() - told <= _OPTIONAL | {_OF_THE_BUDGET}


def test_missing_data_raises_an_alarm_only_of_a_certificate_which_publishes_until_its_end(
    assembly: Path,
) -> None:
    treated = {(entry_of(body), body["TreatMissingData"]) for _, _, body in alarms(assembly)}
    assert {entry for entry, missing in treated if missing != "notBreaching"} == {"certificate-ends"}
    assert ("certificate-ends", "breaching") in treated


def test_every_entry_has_its_four_paragraphs() -> None:
    headings = re.findall(r"^#### (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert [heading.lower().replace(" ", "-") for heading in headings] == list(entries())
