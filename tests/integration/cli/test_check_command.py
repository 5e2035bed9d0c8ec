"""``assistant check`` as a program: statuses, the table, JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from assistant.cli.check import refuse_mistakes
from assistant.domain.errors import DeploymentError
from tests.fakes.forked import run_forked

ROOT = Path(__file__).parents[3]
FOREIGN = ROOT / "tests" / "stacks" / "foreign"
RIGHT = FOREIGN / "support_chat"


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_forked("assistant.cli.main", "check", *map(str, arguments), folder=ROOT)


def test_right_templates_end_with_0_and_say_what_was_checked() -> None:
    done = check(RIGHT / "network.yaml", RIGHT / "service.yaml", "--facts", RIGHT / "facts.toml")
    assert done.returncode == 0, done.stdout
    assert "0 refused, 0 not proven, 23 passed, 0 not applicable." in done.stdout
    assert "2 templates (network, service)" in done.stdout


def test_a_refused_template_ends_with_1_and_says_where_and_how_to_fix_it() -> None:
    done = check(FOREIGN / "wrong" / "16_scaling_first.yaml")
    assert done.returncode == 1
    assert "M16 scaling-before-endpoint: refused  16_scaling_first.Scaling DependsOn" in done.stdout
    assert "→ Add DependsOn: Endpoint" in done.stdout


def test_what_is_not_proven_is_no_pass() -> None:
    done = check(RIGHT, "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    statuses = {mistake["number"]: mistake["status"] for mistake in report["mistakes"]}
    assert "refused" not in statuses.values()
    assert {number for number, status in statuses.items() if status == "not proven"} == {3, 6, 7, 12, 14, 22}
    assert report["clean"] is False
    assert report["facts"] is None


def test_facts_of_a_tenant_are_a_file_that_check_takes(tmp_path: Path) -> None:
    printed = run_forked("assistant.cli.main", "facts", "--tenant", "pharmacy", folder=ROOT)
    assert printed.returncode == 0, printed.stderr
    facts = tmp_path / "facts.toml"
    facts.write_text(printed.stdout, encoding="utf-8")
    done = check(FOREIGN / "wrong" / "02_nlb_without_group.yaml", "--facts", facts, "--json")
    assert json.loads(done.stdout)["facts"] == str(facts)


def test_a_deployment_is_refused_with_every_mistake_that_is_not_ruled_out() -> None:
    wrong = FOREIGN / "wrong" / "18_search_for_everybody.yaml"
    with pytest.raises(DeploymentError) as raised:
        refuse_mistakes(wrong, tenant_file=ROOT / "tenants" / "pharmacy.toml", root=ROOT)
    for code in ("service-linked-role", "domain-ingress", "open-access-policy"):
        assert f"M18 {code}, refused: 18_search_for_everybody." in raised.value.message


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nowhere.yaml"], 1, "there is no such file"),
        (["README.md"], 1, "neither JSON nor YAML"),
        (["docs"], 1, "no CloudFormation template"),
        ([str(RIGHT), "--facts", "nowhere.toml"], 1, "there is no such facts file"),
        ([str(RIGHT), "--facts", "a.toml", "--tenant", "pharmacy"], 2, "either --facts FILE or --tenant T"),
        ([], 2, "TEMPLATE"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: list[str], status: int, said: str) -> None:
    done = check(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
