"""``assistant aws prove``: rows that end with 0 or 1, the price cap, and the end of a sandbox."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from typer.testing import CliRunner

from assistant.cli.aws import proving
from assistant.cli.aws.proving import FILE, Proofs, Proving, Row
from assistant.cli.main import app
from assistant.domain.errors import ConfigurationError
from assistant.tenant.toml_file import read_strict
from assistant.terminal.account import Deployed
from assistant.terminal.terminal import Terminal
from tests.stage.tenant_files import checkout_tenants

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/deciding.md").read_text(encoding="utf-8")
PROOFS = read_strict(FILE, Proofs)
NAMED = pytest.mark.parametrize("row", PROOFS.row, ids=lambda row: row.name)
USD_A_MONTH = 43800.0
"""That is one a minute."""
Made = Callable[..., Proving]


def row(name: str, command: str, *, stops: bool = False, needs: str = "") -> Row:
    return Row(name=name, shows="", minutes=1, command=f"{command}\n", stops=stops, needs=needs)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulated_aws: None) -> Made:
    """Make a run of a sandbox in the folder of the test, which costs one USD a minute."""
    tenants = checkout_tenants(tmp_path)
    file = tenants / "sandbox.toml"
    file.write_text(file.read_text().replace("111122223333", "123456789012"))
    monkeypatch.chdir(tmp_path)
    bill = SimpleNamespace(month=lambda state, part=None: 0.0 if part else USD_A_MONTH)
    monkeypatch.setattr(proving, "make_bill", lambda *given, **named: bill)

    def make(*rows: Row, functions: str = "", tenant: str = "sandbox", gone: str = "touch gone") -> Proving:
        parts = {"synth": row("synth", "true"), "gone": row("gone", gone)}
        proofs = Proofs(functions=functions, row=rows, **parts)
        options = SimpleNamespace(tenants_dir=tenants)
        return Proving(Deployed.named(options, tenant), tenants, proofs, Terminal())  # type: ignore[arg-type]

    return make


# --- the rows ---------------------------------------------------------------------------------------------
def plain(text: str) -> str:
    """Return the text of Markdown without links."""
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text)


def test_the_page_has_each_row_with_its_command() -> None:
    table = PAGE.partition("## What only an account or a chip shows")[2].partition("\n## ")[0]
    command = r"(?:JOB=JOB )?assistant aws prove ([a-z-]+) --tenant (?:sandbox|pharmacy)"
    shown = re.findall(rf"^\| (.+?) \| `{command}` \| (.*?) ?\|$", table, re.M)
    assert [(name, plain(shows), plain(needs)) for shows, name, needs in shown] == [
        (each.name, each.shows, each.needs) for each in PROOFS.row
    ]


@NAMED
def test_the_stacks_have_each_resource_that_a_row_looks_for(row: Row) -> None:
    snapshots = ROOT / "tests/stacks/snapshots"
    for stack, beginning, kind in re.findall(r"\bid (\w+) (\S+) ([A-Za-z0-9]+::\w+)", row.command):
        found = re.compile(rf"^{beginning.strip(chr(34))}\w* AWS::{kind} ", re.M)
        tenant = "Pharmacy" if "pharmacy" in shown_for(row.name) or kind.startswith("Backup") else "Sandbox"
        assert found.search((snapshots / tenant / f"{stack}.txt").read_text()), (stack, beginning)


def shown_for(name: str) -> str:
    """Return the tenant for which the page shows a row."""
    return re.findall(rf"aws prove {name} --tenant (\w+)`", PAGE)[0]


DOUBTS: Mapping[str, Sequence[str]] = {
    "assistant/options/bedrock/bedrock.md": ("bedrock",),
    "assistant/options/models_lab/models_lab.md": ("training-sets", "training-mounts", "old-fleet"),
    "docs/decisions/0017-key-policies-that-only-allow.md": ("key-grants",),
    "docs/decisions/0128-endpoints-that-let-tasks-pull.md": ("pulls",),
    "docs/decisions/0131-recovery-points.md": ("recovery-points",),
    "docs/decisions/0162-one-trail-an-account.md": ("stranger",),
    "docs/from-nothing.md": ("bootstrap",),
    "docs/runbook.md": ("recovery-points",),
    "model_artifacts/README.md": ("bedrock",),
}
"""By page that says so outside the table, the rows that it names."""


def test_each_page_that_leaves_a_doubt_to_an_account_names_its_row() -> None:
    folders = ("docs", "assistant", "model_artifacts")
    pages = [*ROOT.glob("*.md"), *(path for name in folders for path in (ROOT / name).rglob("*.md"))]
    doubts = dict[str, tuple[str, ...]]()
    for page in pages:
        name, text = page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")
        if re.search(r"(?<!what )only an account\b(?! or)|no account has shown", text, re.I):
            doubts[name] = tuple(re.findall(r"aws prove ([a-z-]+)", text))
    assert doubts == DOUBTS
    assert {row for rows in DOUBTS.values() for row in rows} <= {row.name for row in PROOFS.row}


# --- one row ----------------------------------------------------------------------------------------------
def test_a_row_gets_the_names_of_its_tenant(made: Made, tmp_path: Path) -> None:
    proved = made(functions="say() { echo $TENANT $PREFIX $PARAMETERS $AWS_REGION > said; }\n")
    assert proved.holds(row("a", "say"))
    assert (tmp_path / "said").read_text() == "sandbox assistant-sandbox /assistant/sandbox/ us-east-1\n"


@pytest.mark.parametrize("command", ["false", "false | true", "echo $NO_SUCH_NAME", "false; true"])
def test_any_failure_ends_a_row_with_1(made: Made, command: str) -> None:
    assert not made().holds(row("a", command))


def test_a_row_is_ended_with_all_that_it_started(made: Made, tmp_path: Path) -> None:
    began_s = time.monotonic()
    assert not made().holds(row("a", "(sleep 3; touch late) & sleep 60"), minutes=0.01)
    assert time.monotonic() - began_s < 30
    time.sleep(3)
    assert not (tmp_path / "late").exists()


@pytest.mark.parametrize("arguments", [[], ["no-such-row"], ["stacks", "--most-usd", "9"]])
def test_a_row_or_a_cap_is_given(arguments: list[str]) -> None:
    given = ["--tenants", str(ROOT / "tests/tenants"), "aws", "prove", "--tenant", "sandbox", *arguments]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 2
    assert "endpoint-policies" in done.stderr


# --- all rows of a sandbox --------------------------------------------------------------------------------
def test_all_rows_without_needs_are_run_and_the_tenant_is_taken_away(made: Made, tmp_path: Path) -> None:
    rows = row("a", "touch a"), row("b", "false"), row("c", "[ -e a ]"), row("d", "true", needs="a chip")
    assert made(*rows).all_of_sandbox(9.0) == {"a": True, "b": False, "c": True, "gone": True}
    assert (tmp_path / "gone").exists()


def test_a_row_that_the_others_need_ends_the_run_and_the_tenant_goes(made: Made, tmp_path: Path) -> None:
    rows = row("a", "false", stops=True), row("b", "true")
    assert made(*rows).all_of_sandbox(9.0) == {"a": False, "gone": True}
    assert (tmp_path / "gone").exists()


def test_the_tenant_goes_when_somebody_interrupts(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> float:
        if times.append(0.0) or len(times) > 1:
            raise KeyboardInterrupt
        return 0.0

    times = list[float]()
    monkeypatch.setattr(proving, "time", SimpleNamespace(monotonic=interrupted))
    with pytest.raises(KeyboardInterrupt):
        made(row("a", "true")).all_of_sandbox(9.0)
    assert (tmp_path / "gone").exists()


def test_a_cap_below_the_longest_times_makes_nothing(made: Made, tmp_path: Path) -> None:
    proved = made(row("a", "touch a"), row("b", "true"))
    with pytest.raises(ConfigurationError, match=r"more than 2\.99 USD: nothing was made"):
        proved.all_of_sandbox(2.99)  # two rows and the end take three minutes at most
    assert not (tmp_path / "a").exists()
    assert proved.all_of_sandbox(3.0)["gone"]


def test_the_last_row_is_ended_at_the_time_that_keeps_the_cap(
    made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = iter([0.0, 1.0, 119.5])  # of three minutes one is kept for the end
    monkeypatch.setattr(proving, "time", SimpleNamespace(monotonic=lambda: next(now)))
    began_s = time.monotonic()
    ended = made(row("a", "true"), row("b", "sleep 50")).all_of_sandbox(3.0)
    assert ended == {"a": True, "b": False, "gone": True}
    assert time.monotonic() - began_s < 30


def test_a_tenant_that_is_no_sandbox_is_never_taken_away(made: Made, tmp_path: Path) -> None:
    file = tmp_path / "tenants/sandbox.toml"
    text = file.read_text().replace("plain_ids = true\n", "")
    file.write_text(text.replace('profile = "dev"', 'profile = "standard"'))
    with pytest.raises(ConfigurationError, match="another profile than dev"):
        made(row("a", "true")).all_of_sandbox(9.0)
    assert not (tmp_path / "gone").exists()


def test_a_tenant_that_stands_is_never_taken_away(made: Made, tmp_path: Path) -> None:
    stacks = boto3.client("cloudformation", region_name="us-east-1")
    body = '{"Resources": {"Any": {"Type": "AWS::SNS::Topic"}}}'
    stacks.create_stack(StackName="assistant-sandbox-Keys", TemplateBody=body)
    proved = made(row("a", "true"))
    with pytest.raises(ConfigurationError, match="has stacks"):
        proved.all_of_sandbox(9.0)
    assert not (tmp_path / "gone").exists()
    stacks.delete_stack(StackName="assistant-sandbox-Keys")
    assert proved.all_of_sandbox(9.0)["gone"]


def test_what_stays_ends_the_run_with_1(made: Made) -> None:
    assert made(row("a", "true"), gone="false").all_of_sandbox(9.0) == {"a": True, "gone": False}
