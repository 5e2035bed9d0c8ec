"""A tenant of GovCloud, validated as ``cdk synth`` validates it, and one of a region without Bedrock."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from stacks.tenant import read_tenants
from stacks.validators import templates_of
from tests.stacks.synthesized import ROOT, synthesize

LOCK = ROOT / "images.lock.toml"


def moved(folder: Path, region: str, *, partition: str = "aws") -> Path:
    """Return a folder with the sandbox in another region, without candidates, whose images AWS publishes."""
    shutil.copytree(ROOT / "tests/tenants/connectors", folder / "tenants/connectors")
    text = (ROOT / "tests/tenants/sandbox.toml").read_text(encoding="utf-8").replace("us-east-1", region)
    text = text.replace("arn:aws:", f"arn:{partition}:").replace("trials = true\n", "")
    (folder / "tenants/sandbox.toml").write_text(text, encoding="utf-8")
    return folder / "tenants"


def test_a_tenant_of_govcloud_has_no_finding(tmp_path: Path) -> None:
    """AWS publishes the embedding image in no account that the lock knows there: it is copied."""
    tenants, lock = moved(tmp_path, "us-gov-west-1", partition="aws-us-gov"), tmp_path / "lock.toml"
    ours = 'source = "683313688378.dkr.ecr.us-east-1.amazonaws.com/tei-cpu:2.0.1"'
    theirs = 'registry = "sagemaker-algorithms"'
    assert theirs in LOCK.read_text(encoding="utf-8")
    lock.write_text(LOCK.read_text(encoding="utf-8").replace(theirs, ours), encoding="utf-8")

    done = synthesize(tmp_path / "out", validated=True, tenants=str(tenants), images=str(lock))

    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-4000:]
    text = "".join(each.path.read_text(encoding="utf-8") for each in templates_of(tmp_path / "out"))
    assert "AWS::Budgets::Budget" not in text
    assert "us-gov-west-1.console.amazonaws-us-gov.com" in text
    assert "console.aws.amazon.com" not in text


def test_bedrock_is_refused_where_the_region_has_none(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"generation\.bedrock: botocore knows no Bedrock in ap-east-1"
    ):
        read_tenants(folder=moved(tmp_path, "ap-east-1"), only="sandbox", images=LOCK)
