"""Today's templates deployed over the release before: what holds data stays, or the table says why not.

``released`` has the pins of the release before: each stateful resource with the properties that replace it.
An update cannot be run on the emulator, so this is the proof; ``pins`` holds every single change.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from template_checks.upgrades import losses, templates_by_stack_name
from tests.stacks.snapshot import read_pins
from tests.stacks.synthesized import assembly_folder

RELEASED = Path(__file__).parent / "released"
TENANTS = ("pharmacy", "clinic", "sandbox")
ACCEPTED: Mapping[str, str] = {
    "PowerLog": "the log of the power machines goes below /aws/vendedlogs/, for the policy of others is "
    "full in busy accounts; it holds no text of anybody's, and the old group stays (docs/runbook.md)",
    "LlmLog": "the sandbox writes by Bedrock and has no LLM endpoint any more, whose log held no text",
}
"""Beginning of a logical id = why the release over the last one replaces it."""


def lost(assembly: Path, tenant: str) -> list[str]:
    released = read_pins(RELEASED / f"{tenant}.json")
    found = losses(released, templates_by_stack_name(assembly_folder(assembly, tenant)))
    return [str(loss) for loss in found]


def accepted(loss: str) -> str | None:
    return next((name for name in ACCEPTED if f": {name}" in loss), None)


@pytest.mark.parametrize("tenant", TENANTS)
def test_an_upgrade_from_the_previous_release_replaces_no_store(assembly: Path, tenant: str) -> None:
    assert [loss for loss in lost(assembly, tenant) if accepted(loss) is None] == []


def test_every_accepted_replacement_happens(assembly: Path) -> None:
    assert {accepted(loss) for tenant in TENANTS for loss in lost(assembly, tenant)} == set(ACCEPTED)
