"""The event sources that a pause disables: the document queues', by the power state alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.stacks.synthesized import assembly_folder, templates_in
from tests.stacks.values import resources_of


@pytest.fixture
def ingestion(assembly: Path) -> dict[str, Any]:
    return dict(templates_in(assembly_folder(assembly, "pharmacy"))["Ingestion"])


def _switched(template: dict[str, Any]) -> dict[str, Any]:
    """Return the mappings that the power state switches, by logical id."""
    mappings = resources_of(template, "AWS::Lambda::EventSourceMapping")
    return {name: body for name, body in mappings.items() if isinstance(body["Properties"]["Enabled"], dict)}


def test_document_queues_wait_while_the_tenant_is_paused(ingestion: dict[str, Any]) -> None:
    queues = {str(body["Properties"]["EventSourceArn"]) for body in _switched(ingestion).values()}

    assert len(queues) == 2
    assert all("Documents" in queue for queue in queues)
    for body in _switched(ingestion).values():
        assert body["Properties"]["Enabled"] == {"Fn::If": ["TakesWork", True, False]}


def test_withdrawals_are_processed_during_a_pause(ingestion: dict[str, Any]) -> None:
    mappings = resources_of(ingestion, "AWS::Lambda::EventSourceMapping")
    always = [body for name, body in mappings.items() if name not in _switched(ingestion)]

    assert any("Withdrawals" in str(body["Properties"]["EventSourceArn"]) for body in always)
    assert all(body["Properties"]["Enabled"] is True for body in always)


def test_the_state_machines_switch_exactly_these_event_sources(ingestion: dict[str, Any]) -> None:
    (told,) = (
        body["Properties"]
        for body in resources_of(ingestion, "AWS::SSM::Parameter").values()
        if body["Properties"]["Name"] == "/assistant/pharmacy/power-sources"
    )
    parts = told["Value"]["Fn::Join"][1]
    named = [part["Ref"] for part in parts if isinstance(part, dict)]

    written = json.loads("".join(part if isinstance(part, str) else part["Ref"] for part in parts))
    assert set(written["event_sources"]) == set(_switched(ingestion))
    assert len(written["queues"]) == 2
    assert len(named) == 4


def test_the_event_sources_have_the_tag_that_the_state_machines_role_requires(
    ingestion: dict[str, Any],
) -> None:
    for body in _switched(ingestion).values():
        assert {"Key": "tenant", "Value": "pharmacy"} in body["Properties"]["Tags"]
