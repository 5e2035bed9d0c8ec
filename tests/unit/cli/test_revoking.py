"""Revoking an agent's tokens by the command, and what the service then reads."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from assistant.cli.main import app
from assistant.domain.errors import ConfigurationError, DeploymentError, TokenRevokedError
from assistant.service.identity import RevokedTokens
from assistant.stores.clients import revocations_file
from assistant.stores.words import FileWords, Revocations
from assistant.tenant.tenant import load_tenant
from assistant.terminal.account import AwsAccount
from tests.stage.aws_server import REGION
from tests.stage.tenant_stores import SteppedClock

ROOT = Path(__file__).parents[3]
FILE = ROOT / "tests/tenants/pharmacy.toml"
PARAMETER = "/assistant/pharmacy/revocations"
ACCOUNT = AwsAccount(account="123456789012", region=REGION)


def revoke(state: Path, *arguments: str, tenants: Path = FILE.parent) -> Result:
    places = ["--tenants", str(tenants), "--state", str(state)]
    return CliRunner().invoke(app, [*places, "tenant", "revoke", *arguments, "--tenant", "pharmacy"])


def file_of(state: Path) -> Path:
    return revocations_file(state.resolve(), load_tenant(FILE))


async def test_a_revocation_on_this_machine_is_what_the_service_reads(tmp_path: Path) -> None:
    before = datetime.now(UTC).timestamp()
    done = revoke(tmp_path, "--agent", "ann")
    assert done.exit_code == 0, done.output
    tokens = RevokedTokens(Revocations(FileWords(file_of(tmp_path))), clock=SteppedClock())
    with pytest.raises(TokenRevokedError):
        await tokens.require("ann", issued_s=before - 1)
    await tokens.require("ann", issued_s=before + 3600)
    await tokens.require("bob", issued_s=before - 1)
    assert "ann" in done.output


@pytest.mark.usefixtures("emulated_aws")
def test_a_revocation_in_a_deployment_is_added_to_the_parameter(tmp_path: Path) -> None:
    refused = revoke(tmp_path, "--agent", "ann", "--deployed")
    assert isinstance(refused.exception, DeploymentError)  # of another account
    tenants = tmp_path / "tenants"
    shutil.copytree(FILE.parent, tenants)
    text = FILE.read_text("utf-8").replace("111122223333", ACCOUNT.account)
    (tenants / FILE.name).write_text(text, "utf-8")
    for agent in ("ann", "bob"):
        done = revoke(tmp_path, "--agent", agent, "--deployed", tenants=tenants)
        assert done.exit_code == 0, done.output
    assert set(orjson.loads(ACCOUNT.parameter(PARAMETER) or "")) == {"ann", "bob"}
    assert not file_of(tmp_path).exists()
    assert "ann" in done.output


def test_an_earlier_time_never_takes_a_later_one_back_and_old_ones_are_dropped(tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    kept = {"ann": now, "old": now - timedelta(days=91)}
    file = file_of(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_bytes(orjson.dumps(kept))
    assert revoke(tmp_path, "--agent", "ann", "--issued-before", "2026-01-01").exit_code == 0
    revoked = {name: datetime.fromisoformat(at) for name, at in orjson.loads(file.read_bytes()).items()}
    assert revoked == {"ann": now}


@pytest.mark.parametrize(
    ("arguments", "content", "says"),
    [
        (("--agent", "ann", "--issued-before", "2999-01-01"), "{}", "future"),
        (("--agent", "ann"), "{", "not JSON"),
        (("--agent", "a" * 8_200), "{}", "holds no more"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_changes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], content: str, says: str
) -> None:
    file = file_of(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_text(content)
    done = revoke(tmp_path, *arguments)
    assert isinstance(done.exception, ConfigurationError)
    assert says in done.exception.message
    assert file.read_text() == content
