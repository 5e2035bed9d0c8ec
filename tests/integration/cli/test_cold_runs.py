"""Commands from cold, over the real processes and models: each starts what it needs and stops it."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import httpx
import pytest
from shop import Shop, open_shop

from tests.integration.local.local_processes import eventually, running

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

TWO_PEOPLE = """
[deployment]
account = "111122223333"
region = "us-east-1"
zones = ["us-east-1a", "us-east-1b", "us-east-1c"]
profile = "hipaa"
cost_center = "pharmacy-care"
release = "0.1.0"
"""
COLD = "# Cold delivery\n\nWhen a delivery that must stay cold arrives warm, keep it closed and call 4300.\n"


def test_the_first_question_loads_the_knowledge_and_names_its_source(shop: Shop, asked: str) -> None:
    assert "The help desk answers the phone from 8:00 to 18:30, Monday to Saturday. [1]\n" in asked
    assert "\nQuoted word for word\n" in asked
    assert re.search(r"^ +1 +Help desk +help-desk$", asked, re.MULTILINE)
    assert "/open#shop." in asked
    assert shop.nothing_runs()


def test_search_needs_neither_llm_nor_service(shop: Shop, asked: str) -> None:
    process = shop.start("search", "--tenant", "shop", "--json", "give money back for an unopened item")
    names: set[str] = set()

    def ended() -> bool:
        names.update(running(shop.registry).processes)
        return process.poll() is not None

    eventually(ended, within_s=120)
    out, _ = process.communicate()
    assert names == {"embedding", "gateway"}
    assert json.loads(out)["documents"][0]["document_id"] == "returns"


def test_two_commands_at_once_from_cold_both_succeed(shop: Shop, asked: str) -> None:
    both = [shop.start("search", "--tenant", "shop", "--json", "returns") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert json.loads(out)["documents"]
    assert shop.nothing_runs()


def test_an_interrupted_question_leaves_no_process(shop: Shop, asked: str) -> None:
    process = shop.start("ask", "--tenant", "shop", "When does the help desk answer the phone?")
    eventually(lambda: "service" in running(shop.registry).processes, within_s=60)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert shop.nothing_runs()


@pytest.fixture
def demo_shop(shop: Shop, asked: str, tmp_path: Path) -> Shop:
    """A shop of its own under a tenant's name that the demo asks, with the models of the other."""
    made = open_shop(tmp_path, tenant="pharmacy")
    (made.folder / "notes" / "cold.md").write_text(COLD)
    with (made.folder / "tenants" / "pharmacy.toml").open("a") as tenant:
        tenant.write(TWO_PEOPLE)
    made.registry.path.parent.mkdir()
    shutil.copytree(shop.registry.path.parent / "models", made.registry.path.parent / "models")
    return made


def test_the_demo_answers_and_serves_until_ctrl_c(demo_shop: Shop) -> None:
    process = demo_shop.start("demo")
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "Console" in line:
            break
    out = "".join(lines)
    assert re.search(r"^ +1 +Cold delivery +cold$", out, re.MULTILINE), out
    assert_story_told(out)
    address = lines[-1].split()[-1]
    assert httpx.get(f"{address}healthz", timeout=10).status_code == 200
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert demo_shop.nothing_runs()
    assert_story_told(demo_shop.run("demo", "--exit"))  # over the state of the first


def assert_story_told(out: str) -> None:
    """Assert that a bad mark, approved by a second person, changed the next agent's answer, in this order."""
    steps = [
        r"amira, agent +asks: ",
        r"Not in the knowledge base\.",
        r"amira, agent +marks it bad, with a better text: ([^\n]+)",
        r"rosa, reviewer +finds the case at the desk after [\d.]+ s",
        r"rosa, reviewer +may not approve what she proposed",
        r"samuel, reviewer +reads it and approves it",
        r"noor, agent +asks: [^\n]+\n\1\n",
        r"The answer changed [\d.]+ s after the approval\.",
        r"samuel, reviewer +withdraws it again",
    ]
    assert re.search(".*?".join(steps), out, re.DOTALL), out
