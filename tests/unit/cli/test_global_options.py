from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from assistant.cli.main import app, hoist
from assistant.domain.errors import ConfigurationError
from assistant.terminal.terminal import GlobalOptions


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["ask", "--state", "s", "why"], ["--state", "s", "ask", "why"]),
        (["search", "--tenants=t", "q", "--json"], ["--tenants=t", "--json", "search", "q"]),
        (["--port", "0", "tenant", "up"], ["--port", "0", "tenant", "up"]),
        (["ask", "--", "--json"], ["ask", "--", "--json"]),
        (["ask", "--state"], ["--state", "ask"]),
    ],
)
def test_global_options_may_stand_anywhere_before_a_double_dash(
    given: list[str], expected: list[str]
) -> None:
    assert hoist(given) == expected


@pytest.mark.parametrize(("value", "expected"), [("woodpecker", True), ("false", False)])
def test_ci_says_that_nobody_presses_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, expected: bool
) -> None:
    monkeypatch.setenv("CI", value)
    options = GlobalOptions(tenants_dir=tmp_path, state_dir=tmp_path, port=None, json=False)
    assert options.local_settings().in_ci is expected


def test_a_customer_is_not_signed_for_a_service_elsewhere() -> None:
    asked = ["ask", "--tenant", "pharmacy", "--customer", "1", "--service", "https://assistant.test", "Why?"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 2
    assert "--customer is signed for the service of this machine" in " ".join(done.output.split())


def test_an_unknown_tenant_is_answered_with_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "bakery.toml").write_text('schema_version = 1\nname = "bakery"\ndisplay_name = "Bakery"\n')
    options = GlobalOptions(tenants_dir=tmp_path, state_dir=tmp_path, port=None, json=False)
    with pytest.raises(ConfigurationError, match=r"no tenant baker in .*; there are bakery"):
        options.tenant("baker")
