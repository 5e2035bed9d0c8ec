"""Parameters of live systems in an account: the commands that people are given do what the checks ask for."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import boto3
import pytest

from assistant.domain.errors import DeploymentError
from assistant.tenant.tenant import load_tenant
from assistant.terminal.account import AccountChecks, AwsAccount, Finding
from tests.stage.aws_server import REGION

pytestmark = pytest.mark.usefixtures("emulated_aws")
ROOT = Path(__file__).parents[3]
ACCOUNT = "123456789012"
FILE = ROOT / "tests/tenants/pharmacy.toml"
CARE_KEYS, SWITCH = "/assistant/pharmacy/care-jwks", "/assistant/pharmacy/systems/orders"
KEY_SET = json.dumps({"keys": [{"kty": "EC", "kid": "care", "crv": "P-256", "x": "x", "y": "y"}]})


def aws() -> AwsAccount:
    return AwsAccount(account=ACCOUNT, region=REGION)


def care_keys(**changes: Any) -> list[Finding]:
    """Return what a deployment's check says of the care application's keys, by other keys of its section."""
    tenant = load_tenant(FILE)
    assert tenant.care_context is not None
    tenant = tenant.model_copy(update={"care_context": tenant.care_context.model_copy(update=changes)})
    assert tenant.deployment is not None
    checks = AccountChecks(aws=aws(), tenant=tenant, place=tenant.deployment, tenant_file=FILE, templates={})
    return list(checks.checks()["care keys"]())


def typed(text: str) -> dict[str, Any]:
    """Return the arguments of the one ``aws ssm put-parameter`` in a text, as boto3 takes them."""
    (command,) = re.findall(r"aws ssm put-parameter [^\n`]+", text)
    words = shlex.split(command)[3:]
    given: dict[str, Any] = {}
    while words:
        name = words.pop(0).removeprefix("--").title().replace("-", "")
        given[name] = words.pop(0) if words and not words[0].startswith("--") else True
    if str(given["Value"]).startswith("file://"):
        given["Value"] = KEY_SET
    return given


def put(given: dict[str, Any]) -> None:
    client: Any = boto3.client("ssm", region_name=REGION)
    client.put_parameter(**given)


def test_the_command_of_the_remark_ends_it() -> None:
    (missing,) = care_keys()
    given = typed(missing.said)
    assert (missing.kind, given["Name"]) == ("warn", CARE_KEYS)
    put(given)
    assert care_keys() == []
    put(given)  # a rotation is the same command


def test_a_parameter_of_another_name_is_asked_for_and_none_where_nobody_signs() -> None:
    put({"Name": "/care/keys", "Type": "String", "Value": KEY_SET})
    assert care_keys(jwks_parameter="/care/keys") == care_keys(plain_ids=True) == []
    assert [each.kind for each in care_keys()] == ["warn"]


@pytest.mark.parametrize(
    ("heading", "name"),
    [("Switch a system off", SWITCH), ("Rotate the care application's keys", CARE_KEYS)],
)
def test_the_runbook_s_commands_overwrite_what_is_there(heading: str, name: str) -> None:
    page = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    given = typed(section)
    put({"Name": name, "Type": "String", "Value": "before"})
    put(given)
    assert aws().parameter(given["Name"]) == given["Value"] != "before"
    assert given["Name"] == name


def test_a_deployment_overwrites_no_parameter() -> None:
    aws().put_parameter(SWITCH, value="off", overwrite=False)
    with pytest.raises(DeploymentError, match="ParameterAlreadyExists"):
        aws().put_parameter(SWITCH, value="on", overwrite=False)
    assert aws().parameter(SWITCH) == "off"
