"""docs/from-nothing.md, counted: few actions to a first answer, each with a check and an existing command."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from assistant.cli.tenant import refusals
from assistant.tenant.tenant import load_tenants
from tests.stage.tenant_files import FIRST, PAGE, Action, edited_as_told, section

ROOT = Path(__file__).parents[2]
MOST = 20


NUMBERED = pytest.mark.parametrize("action", FIRST, ids=lambda action: f"{action.number}-{action.kind}")


def commands(block: str) -> list[str]:
    """The commands of a block, a continued one as one."""
    return [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def test_a_first_answer_takes_few_actions_and_all_are_counted() -> None:
    assert [action.number for action in FIRST] == list(range(1, len(FIRST) + 1))
    assert 10 < len(FIRST) <= MOST
    assert "Twenty actions" in PAGE
    before_the_first = section("To the first answer").split("**1 · ")[0]
    assert "```" not in before_the_first


@NUMBERED
def test_each_action_is_one_block_or_none_and_has_its_check(action: Action) -> None:
    assert len(action.checks) == 1
    assert re.search(r"`|action \d+|ends with 0", action.checks[0])
    assert len(action.blocks) == (1 if action.kind == "command" else 0)


@pytest.mark.parametrize(
    ("page", "tenant"), [("from-nothing.md", "sandbox"), ("private-link.md", "pharmacy")]
)
def test_both_accounts_are_bootstrapped_before_anything_is_deployed_to_them(page: str, tenant: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    care = text.index("cdk bootstrap --app '' aws://444455556666")
    assert care < text.index(f" -c stage=care_app -c tenant={tenant} '**'\n```")


def test_no_command_of_the_first_answer_asks_and_none_needs_a_machine_inside() -> None:
    """An answer to a question of a command is an action too."""
    blocks = [command for action in FIRST for block in action.blocks for command in commands(block)]
    deploying = [command for command in blocks if "cdk deploy" in command or "aws deploy" in command]
    assert len(deploying) == 4
    assert [command for command in deploying if "--require-approval never" not in command] == []
    assert [command for command in blocks if "--service " in command] == []


@pytest.fixture
def sandbox() -> str:
    """The shipped file, which a company may have deleted."""
    file = ROOT / "tenants/sandbox.toml"
    if not file.exists():
        pytest.skip("this checkout has no tenants/sandbox.toml")
    return file.read_text(encoding="utf-8")


def test_after_the_page_s_edits_nothing_of_the_shipped_sandbox_is_made_up(
    sandbox: str, tmp_path: Path
) -> None:
    (tmp_path / "tenants").mkdir()
    shutil.copytree(ROOT / "knowledge/pharmacy", tmp_path / "knowledge/pharmacy")
    values = {
        "111122223333": "210987654321",
        "444455556666": "543210987654",
        "MY_ARN": "arn:aws:iam::210987654321:user/engineer",
        '"ARN"': '"arn:aws:acm:us-east-1:210987654321:certificate/8d7a6c5b-1f2e-4d3c-9b8a-7c6d5e4f3a2b"',
    }

    def told(text: str) -> str:
        for shown, meant in values.items():
            text = text.replace(shown, meant)
        return text

    (tmp_path / "tenants/sandbox.toml").write_text(edited_as_told(sandbox, FIRST[4], told))
    files = load_tenants(tmp_path / "tenants")
    assert list(refusals(files.one("sandbox"), files)) == []
