"""Reads of every store that can contain a patient's text come into the tenant's audit log, or the store is
excused with a reason."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from assistant.tenant.deployed_names import TABLES
from tests.stacks.synthesized import ROOT, assembly_folder, templates_in
from tests.stacks.values import mappings, resources_of

BUCKETS = 8
TENANTS = ("pharmacy", "clinic", "sandbox")
STORES = (
    "AWS::DynamoDB::Table",
    "AWS::Kinesis::Stream",
    "AWS::KinesisFirehose::DeliveryStream",
    "AWS::Logs::LogGroup",
    "AWS::OpenSearchService::Domain",
    "AWS::RDS::DBCluster",
    "AWS::S3::Bucket",
    "AWS::SQS::Queue",
)
"""Types that keep what is given to them. SSM parameters and topics of ours hold settings and alarms."""
_ROW = re.compile(r"^\| `(\w+/[\w*]+)` \| .+ \|$", re.MULTILINE)
_PAGE = (ROOT / "docs" / "hipaa.md").read_text(encoding="utf-8")
UNRECORDED = tuple(_ROW.findall(_PAGE.partition("\n## Whose reads are recorded\n")[2].partition("\n## ")[0]))
"""Patterns of the stores whose reads do not come there, by stack and logical id; the page has the reason of
each."""
_MADE_BY_CDK = re.compile(r"[0-9A-F]{8}$")


def stores(assembly: Path, tenant: str) -> set[str]:
    """The tenant's stores by stack and logical id."""
    return {
        f"{stack}/{_MADE_BY_CDK.sub('', logical_id)}"
        for stack, template in templates_in(assembly_folder(assembly, tenant)).items()
        for logical_id, body in template["Resources"].items()
        if body["Type"] in STORES
    }


def recorded(assembly: Path, tenant: str) -> set[str]:
    """The stores whose objects or items the tenant's rule of reads selects, by stack and logical id."""
    templates = templates_in(assembly_folder(assembly, tenant))
    patterns = [
        body["Properties"]["EventPattern"]["detail"]
        for body in resources_of(templates["Observability"], "AWS::Events::Rule").values()
    ]
    (reads,) = [each["resources"]["ARN"] for each in patterns if each.get("eventCategory") == ["Data"]]
    found: set[str] = set()
    for each in mappings(reads):
        if output := each.get("Fn::GetStackOutput"):
            stack = output["StackName"].rpartition("-")[2]
            value = templates[stack]["Outputs"][output["OutputName"]]["Value"]
            found.add(f"{stack}/{value['Ref']}")
    return found


@pytest.mark.parametrize("tenant", TENANTS)
def test_every_store_is_recorded_or_excused(assembly: Path, tenant: str) -> None:
    unknown = {
        store
        for store in stores(assembly, tenant) - recorded(assembly, tenant)
        if not any(fnmatchcase(store, pattern) for pattern in UNRECORDED)
    }
    assert unknown == set(), "let its reads come into AuditLog, or say in docs/hipaa.md why not"


@pytest.mark.parametrize("tenant", TENANTS)
def test_no_recorded_store_is_excused(assembly: Path, tenant: str) -> None:
    seen = recorded(assembly, tenant)
    assert len(seen) == BUCKETS + len(TABLES)
    assert not {store for store in seen if any(fnmatchcase(store, pattern) for pattern in UNRECORDED)}


def test_every_excused_store_exists(assembly: Path) -> None:
    there = {store for tenant in TENANTS for store in stores(assembly, tenant)}
    assert not [pattern for pattern in UNRECORDED if not any(fnmatchcase(one, pattern) for one in there)]


def test_no_index_logs_slow_requests_with_their_text() -> None:
    for path in (ROOT / "assistant").rglob("*.py"):
        assert "slowlog" not in path.read_text(encoding="utf-8"), path
