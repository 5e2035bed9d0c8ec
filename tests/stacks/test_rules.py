"""Mistakes planted in our templates: a named rule, or the proof of paths, refuses each of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from assistant.cli.aws.templates import facts_of
from tests.stacks.mistakes import planted_in_models, planted_in_policies, planted_in_services
from tests.stacks.mistakes.independent import WRITTEN, Written
from tests.stacks.mistakes.planted import PLANTED, Planted
from tests.stacks.mistakes.scene import Scene
from tests.stacks.synthesized import ROOT, assembly_folder

TENANTS = ("pharmacy", "clinic", "sandbox")
assert planted_in_models
assert planted_in_policies
assert planted_in_services

_RIGHTS = "tests/stacks/rights (test_services, test_duties), test_keys and test_task_rights"
_IN_A_VPC = "cdk-nag (HIPAA.Security-LambdaInsideVPC) and checkov (CKV_AWS_117)"
LEFT: Mapping[str, str] = {
    "7-private-dns-in-the-first-phase": "test_care_app: private DNS of the link only in the second phase",
    "17-log-key-without-the-logs-service": _RIGHTS,
    "17-log-key-for-the-groups-of-another-tenant": _RIGHTS,
    "17-log-key-that-denies-the-service": _RIGHTS,
    "17-capture-key-without-data-keys": _RIGHTS,
    "17-capture-key-for-another-service": _RIGHTS,
    "17-capture-bucket-that-asks-for-another-tag": _RIGHTS,
    "17-capture-by-a-role-that-is-kept-out": _RIGHTS,
    "19-log-bucket-that-denies-services": _RIGHTS,
    "20-pulling-is-denied": _RIGHTS,
    "20-secret-of-somebody-else": _RIGHTS,
    "20-no-rights-to-pull": _RIGHTS,
    "17-a-log-group-under-the-key-of-data": _RIGHTS,
    "17-capture-into-another-bucket": _RIGHTS,
    "17-capture-within-a-boundary-of-reading": _RIGHTS,
    "17-a-capture-bucket-for-another-encryption": _RIGHTS,
    "19-s3-logs-into-a-bucket-with-a-key": _RIGHTS,
    "20-a-log-group-that-the-role-does-not-know": _RIGHTS,
    "21-function-outside-the-vpc": _IN_A_VPC,
    "21-helper-for-bucket-notifications": _IN_A_VPC,
    "21-a-serverless-function": _IN_A_VPC,
}
"""Mistakes that neither rules nor paths refuse = who does (decision 0067)."""


@pytest.fixture(scope="module")
def ours(assembly: Path) -> Scene:
    facts = facts_of(ROOT / "tests/tenants/pharmacy.toml", root=ROOT)
    return Scene.read([assembly_folder(assembly, "pharmacy")], facts=facts)


@pytest.mark.parametrize("planted", [one for one in PLANTED if str(one) not in LEFT], ids=str)
def test_a_planted_mistake_is_refused_with_its_fix(ours: Scene, planted: Planted) -> None:
    changed = ours.copy()
    planted.change(changed)
    findings = [one for one in changed.broken() if one.code == planted.code]
    findings = findings or [one for one in changed.refused() if one.code.startswith("reach-")]
    assert findings
    for finding in findings:
        assert finding.where
        assert finding.message.endswith(".")
        assert finding.fix


@pytest.mark.parametrize("written", [one for one in WRITTEN if str(one) not in LEFT], ids=str)
def test_an_independently_written_mistake_is_refused(ours: Scene, written: Written) -> None:
    changed = ours.copy()
    written.change(changed)
    assert changed.refused()


def test_what_is_left_to_others_is_planted() -> None:
    assert LEFT.keys() <= {str(one) for one in (*PLANTED, *WRITTEN)}


@pytest.mark.parametrize("tenant", TENANTS)
def test_our_templates_break_no_rule(assembly: Path, tenant: str) -> None:
    facts = facts_of(ROOT / "tests/tenants" / f"{tenant}.toml", root=ROOT)
    assert Scene.read([assembly_folder(assembly, tenant)], facts=facts).broken() == []
