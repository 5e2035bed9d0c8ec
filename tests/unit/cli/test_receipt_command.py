"""``assistant aws receipt verify``, with keys of an emulated KMS."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner, Result

from assistant.cli.main import app
from assistant.domain.documents import WithdrawalReceipt, signed_text
from assistant.domain.errors import AssistantError
from assistant.process.aws import open_client, signed_receipt
from assistant.tenant.deployed_names import RECEIPT_KEY_OUTPUT
from tests.stage.aws_server import REGION
from tests.stage.sagemaker_control import ACCOUNT
from tests.stage.tenant_files import committed_tenant

pytestmark = pytest.mark.loopback
WITHDRAWN = datetime(2026, 11, 20, 9, 30, 0, 250_000, tzinfo=UTC)
RECEIPT = WithdrawalReceipt(
    document_id="doc-1",
    title="Fills that are “early”",
    withdrawn_at=WITHDRAWN,
    made_at=WITHDRAWN,
    is_complete=True,
    places=(),
)


@dataclass
class Deployed:
    """A tenant whose keys stack stands on the emulator."""

    folder: Path
    kms: Any
    key: str

    async def signed(self, *, key: str = "") -> dict[str, Any]:
        signature = await signed_receipt(
            self.kms, key or self.key, signed_text(RECEIPT.model_dump(mode="json"))
        )
        return RECEIPT.model_copy(update={"signature": signature}).model_dump(mode="json")

    def verify(self, *written: object, json_too: bool = False) -> Result:
        file = self.folder / "receipt.json"
        file.write_text(json.dumps(written[0] if len(written) == 1 else {"receipts": written}))
        command = ["aws", "receipt", "verify", str(file), "--tenant", "sandbox"]
        options = ["--tenants", str(self.folder / "tenants"), *(["--json"] if json_too else [])]
        return CliRunner().invoke(app, [*options, *command])


@pytest.fixture
async def deployed(
    aws_server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Deployed]:
    for name, value in {
        "AWS_ENDPOINT_URL": aws_server_url,
        "AWS_ACCESS_KEY_ID": "AKIDLOCAL",
        "AWS_SECRET_ACCESS_KEY": "x",
    }.items():
        monkeypatch.setenv(name, value)
    prefix = f"r{abs(hash(tmp_path)) % 10**8}"
    (tmp_path / "tenants").mkdir()
    text = committed_tenant("sandbox").replace('account = "111122223333"', f'account = "{ACCOUNT}"')
    text = text.replace('region = "us-east-1"\n', f'region = "us-east-1"\nname_prefix = "{prefix}"\n')
    (tmp_path / "tenants/sandbox.toml").write_text(text)
    async with open_client("kms", region=REGION, endpoint_url=aws_server_url) as kms:
        made = await kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
        arn = made["KeyMetadata"]["Arn"]
        topic = {"Type": "AWS::SNS::Topic"}
        template = {"Resources": {"Topic": topic}, "Outputs": {RECEIPT_KEY_OUTPUT: {"Value": arn}}}
        boto3.client("cloudformation", region_name=REGION).create_stack(
            StackName=f"{prefix}-sandbox-Keys", TemplateBody=json.dumps(template)
        )
        yield Deployed(tmp_path, kms, arn)


async def test_a_receipt_is_as_the_deployment_signed_it(deployed: Deployed) -> None:
    signed = await deployed.signed()

    assert deployed.verify(signed).exit_code == 0
    done = deployed.verify(signed, signed, json_too=True)
    assert done.exit_code == 0, done.output
    assert [one["verified"] for one in json.loads(done.output)["receipts"]] == ["as signed"] * 2


async def test_a_changed_a_foreign_and_an_unsigned_receipt_are_told(deployed: Deployed) -> None:
    signed = await deployed.signed()
    other = await deployed.kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
    foreign = await deployed.signed(key=other["KeyMetadata"]["Arn"])
    forged = {**signed, "signature": {**foreign["signature"], "key": deployed.key}}
    broken = {**signed, "signature": {**signed["signature"], "value": "not base64"}}
    unsigned = {name: value for name, value in signed.items() if name != "signature"}

    for receipt, said in {
        "is_complete": ({**signed, "is_complete": False}, "changed since it was signed"),
        "added": ({**signed, "note": "x"}, "changed since it was signed"),
        "forged": (forged, "changed since it was signed"),
        "broken": (broken, "changed since it was signed"),
        "foreign": (foreign, "signed by another key"),
        "unsigned": (unsigned, "not signed"),
    }.values():
        done = deployed.verify(receipt)
        assert done.exit_code == 1
        assert said in " ".join(done.output.split())


def test_a_file_without_a_receipt_is_refused(deployed: Deployed) -> None:
    error = deployed.verify([]).exception
    assert isinstance(error, AssistantError)
    assert "no receipt. Give what assistant knowledge withdraw" in error.message
