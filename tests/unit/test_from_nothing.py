"""docs/from-nothing.md, counted: few actions to a first answer, each with a check and an existing command."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from assistant.cli.main import load_command
from assistant.cli.tenant import refusals
from assistant.tenant.tenant import load_tenants

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "from-nothing.md").read_text(encoding="utf-8")
MOST = 20


@dataclass(frozen=True)
class Action:
    """One numbered step of the page."""

    number: int
    kind: str
    text: str

    @property
    def blocks(self) -> list[str]:
        return re.findall(r"```sh\n(.*?)```", self.text, re.DOTALL)

    @property
    def checks(self) -> list[str]:
        return re.findall(r"^\*Check:\* (.+)", self.text, re.MULTILINE)


def section(heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def actions(text: str) -> list[Action]:
    found = re.split(r"^\*\*(\d+) · [^*]+\*\* \((command|edit|ticket|person)\)", text, flags=re.MULTILINE)
    numbers, kinds, bodies = found[1::3], found[2::3], found[3::3]
    return [Action(int(n), kind, body) for n, kind, body in zip(numbers, kinds, bodies, strict=True)]


def edited_as_told(text: str, action: Action, told: Callable[[str], str] = str) -> str:
    """Return a TOML file after an action's edits: each value of its block in place of its key's, without the
    keys that it deletes. ``told``: puts a walker's values in place of the page's."""
    (block,) = re.findall(r"```toml\n(.*?)```", action.text, re.DOTALL)
    table = ""
    for line in filter(None, told(block).splitlines()):
        if line.startswith("["):
            table = line
            continue
        before = rf"(?ms)^({re.escape(table)}\n(?:(?!^\[).)*?)^{line.partition(' = ')[0]} = [^\n]*"
        text, count = re.subn(before, lambda found, line=line: found[1] + line, text)
        assert count == 1, line
    for key in re.findall(r"Delete `(\w+)`", action.text):
        text = re.sub(rf"(?m)^{key} = .*\n", "", text)
    return text


FIRST = actions(section("To the first answer"))
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
def test_each_action_is_one_and_has_its_check(action: Action) -> None:
    assert len(action.checks) == 1
    assert re.search(r"`|action \d+|ends with 0", action.checks[0])
    done = [command for block in action.blocks for command in commands(block)]
    assert len(done) == (1 if action.kind == "command" else 0)


def test_knowledge_comes_before_the_first_question_and_the_file_before_what_reads_it() -> None:
    order = {
        key: next(a.number for a in FIRST if key in a.text) for key in ("knowledge push", "lambda invoke")
    }
    assert order["knowledge push"] < order["lambda invoke"] == FIRST[-1].number
    edit = next(action.number for action in FIRST if action.kind == "edit")
    synthesizing = [
        action.number
        for action in FIRST
        if any(word in block for block in action.blocks for word in ("cdk deploy", "assistant aws deploy"))
    ]
    assert edit < min(synthesizing)


def test_no_step_synthesizes_every_tenant() -> None:
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL):
        for command in commands(block):
            if "cdk deploy" in command:
                assert "-c tenant=" in command, command


@NUMBERED
def test_its_command_is_one_that_there_is(action: Action) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for block in action.blocks:
        for command in commands(block):
            words = shlex.split(command)
            if words[0] == "make":
                assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
            elif words[0] == "assistant":
                known(words[1:])


def known(words: list[str]) -> None:
    """Walk down to the command, and look for each of its options; behind ``--`` are those of cdk."""
    words = words[: words.index("--")] if "--" in words else words
    place, words = load_command(words[0]), words[1:]
    if hasattr(place, "commands"):
        place, words = place.commands[words[0]], words[1:]
    options = {name for parameter in place.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


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


def test_the_shipped_sandbox_has_no_key_of_the_desk(sandbox: str) -> None:
    assert re.findall(r"frame_ancestors|cors_origins|\[(?:desk|review|panel)\b", sandbox) == []


def test_each_name_in_capitals_is_told_before_it_is_needed() -> None:
    told = section("To the first answer").split("**1 · ")[0] + PAGE.split("## ")[0]
    for action in FIRST:
        told += re.sub(r"```.*?```", "", action.text, flags=re.DOTALL)
        printed = {
            re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper() for name in re.findall(r"`([A-Za-z]+)`", told)
        }
        blocks = " ".join(re.findall(r"```(?:sh|toml)\n(.*?)```", action.text, re.DOTALL))
        needed = set(re.findall(r"(?<![\w-])[A-Z][A-Z_]+(?![\w=])", blocks)) - {"TO", "DNS"}
        assert needed <= printed | set(re.findall(r"[A-Z][A-Z_]+", told)), action.number
