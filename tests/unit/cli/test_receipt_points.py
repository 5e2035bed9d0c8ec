"""``assistant aws receipt verify --points``, with recovery points that an emulated AWS Backup lists."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner, Result

from assistant.cli.main import app
from assistant.domain.errors import AssistantError
from assistant.tenant.deployed_names import RECOVERY_VAULT_OUTPUT
from tests.stage.tenant_files import committed_tenant
from tests.unit.cli.conftest import PlannedCalls

ACCOUNT = "123456789012"
"""Moto's."""
WITHDRAWN = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
UNTIL = WITHDRAWN + timedelta(days=36)
PLACE = {"place": "recovery_points", "state": "remains", "until": UNTIL.isoformat()}
RECEIPT = {"document_id": "doc-1", "withdrawn_at": WITHDRAWN.isoformat(), "places": [PLACE]}


@pytest.fixture
def account(planned_calls: PlannedCalls) -> PlannedCalls:
    output = {RECOVERY_VAULT_OUTPUT: {"Value": "recovery-1"}}
    template = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}, "Outputs": output}
    boto3.client("cloudformation", region_name="us-east-1").create_stack(
        StackName="assistant-pharmacy-Data", TemplateBody=json.dumps(template)
    )
    return planned_calls


def point(name: str, begun: datetime, *, days: int | None = 35, status: str = "COMPLETED") -> dict[str, Any]:
    ends = {} if days is None else {"CalculatedLifecycle": {"DeleteAt": begun + timedelta(days=days)}}
    return {
        "RecoveryPointArn": f"arn:aws:backup:us-east-1:{ACCOUNT}:recovery-point:{name}",
        "ResourceArn": "arn:aws:s3:::documents",
        "CreationDate": begun,
        "Status": status,
        **ends,
    }


def pages(*points: dict[str, Any]) -> Any:
    """Answer one point a page, of the one vault."""

    def answer(given: Any) -> dict[str, Any]:
        assert given["BackupVaultName"] == "recovery-1"
        at = int(given.get("NextToken") or 0)
        following = {"NextToken": str(at + 1)} if at + 1 < len(points) else {}
        return {"RecoveryPoints": list(points[at : at + 1]), **following}

    return answer


def asked(folder: Path, *, receipt: object = RECEIPT, as_json: bool = True) -> Result:
    (folder / "tenants").mkdir(exist_ok=True)
    text = committed_tenant("pharmacy").replace("111122223333", ACCOUNT)
    (folder / "tenants/pharmacy.toml").write_text(text)
    file = folder / "receipt.json"
    file.write_text(json.dumps(receipt))
    options = ["--tenants", str(folder / "tenants"), *(["--json"] if as_json else [])]
    return CliRunner().invoke(
        app, [*options, "aws", "receipt", "verify", "--points", str(file), "--tenant", "pharmacy"]
    )


def said(done: Result) -> dict[str, str]:
    return {each["point"].rpartition(":")[2]: each["said"] for each in json.loads(done.output)["points"]}


def test_each_point_that_may_hold_the_document_is_named_with_its_end(
    account: PlannedCalls, tmp_path: Path
) -> None:
    account.answers["ListRecoveryPointsByBackupVault"] = pages(
        point("running", WITHDRAWN + timedelta(hours=7)),
        point("before", WITHDRAWN - timedelta(days=1)),
        point("after", WITHDRAWN + timedelta(hours=9)),
    )
    done = asked(tmp_path)
    assert done.exit_code == 0, done.output
    assert said(done) == {"before": "in time", "running": "in time"}
    before, _ = json.loads(done.output)["points"]
    assert before["ends"] == (WITHDRAWN + timedelta(days=34)).isoformat()
    assert before["document_id"] == "doc-1"
    assert "recovery-point" in asked(tmp_path, as_json=False).output


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (point("kept", WITHDRAWN, days=None), f"the receipt says {UNTIL}"),
        (point("kept", WITHDRAWN, days=40), f"the receipt says {UNTIL}"),
        (point("kept", WITHDRAWN, status="EXPIRED"), "AWS could not delete it"),
    ],
    ids=["without an end", "too late", "not deleted"],
)
def test_a_point_without_an_end_in_time_fails(
    account: PlannedCalls, tmp_path: Path, points: dict[str, Any], words: str
) -> None:
    account.answers["ListRecoveryPointsByBackupVault"] = pages(points)
    done = asked(tmp_path)
    assert done.exit_code == 1
    assert said(done) == {"kept": words}


def test_a_receipt_that_names_no_recovery_points_fails_where_there_are_some(
    account: PlannedCalls, tmp_path: Path
) -> None:
    account.answers["ListRecoveryPointsByBackupVault"] = pages(point("kept", WITHDRAWN))
    done = asked(tmp_path, receipt={**RECEIPT, "places": []})
    assert done.exit_code == 1
    assert said(done) == {"kept": "the receipt says None"}


def test_a_tenant_without_a_vault_and_a_receipt_without_a_time_are_told(
    account: PlannedCalls, tmp_path: Path
) -> None:
    account.answers["ListRecoveryPointsByBackupVault"] = pages()
    error = asked(tmp_path, receipt={"document_id": "doc-1"}).exception
    assert isinstance(error, AssistantError)
    assert "A receipt says no time of withdrawal" in error.message
    boto3.client("cloudformation", region_name="us-east-1").delete_stack(StackName="assistant-pharmacy-Data")
    error = asked(tmp_path).exception
    assert isinstance(error, AssistantError)
    assert "no recovery points: take the profile hipaa" in error.message
