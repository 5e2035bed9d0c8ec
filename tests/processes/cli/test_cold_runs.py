"""Commands from cold, over the real processes and models: each starts what it needs and stops it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from subprocess import Popen

import httpx
import pytest

from tests.processes.cli.conftest import Shop, open_demo

READ_ONCE = {
    "/v1/orders/4471-2208/delivery": 1,
    "/v1/prescriptions/7301842-04417": 1,
}
"""For six elements of one answer."""
WHOLE = os.environ.get("DEMO") == "whole"
"""With all knowledge of the demo's tenants: ``check-demo``."""
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
STARTS = re.compile(r"^ +([\d.]+) s  service ready", re.MULTILINE)
LOADED = re.compile(r"^ +[\d.]+ s  (\w+): (\d+) documents, (\d+) new, in ([\d.]+) s$", re.MULTILINE)
TOOK = re.compile(r"whole answer after ([\d.]+) s")


def test_the_first_question_loads_the_knowledge_and_names_its_source(shop: Shop, asked: str) -> None:
    assert "The help desk answers the phone from 8:00 to 18:30, Monday to Saturday. [1]\n" in asked
    assert "\nQuoted word for word\n" in asked
    assert re.search(r"^ +1 +Help desk +help-desk$", asked, re.MULTILINE)
    assert "/open#shop." not in asked  # its 450 characters are behind the title on a terminal, and in --json
    assert shop.nothing_runs()


def test_an_interrupted_question_leaves_no_process(shop: Shop, asked: str) -> None:
    process = shop.start("ask", "--tenant", "shop", "When does the help desk answer the phone?")
    until = time.monotonic() + 60
    while shop.address() is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert shop.nothing_runs()


@pytest.fixture
def demo_shop(shop: Shop, asked: str, tmp_path: Path) -> Shop:
    """The demo's tenants in a folder of their own, with the models of the other shop."""
    made = open_demo(tmp_path, whole=WHOLE)
    shutil.copytree(shop.state / "models", made.state / "models")
    return made


@pytest.mark.night  # CI runs the demo as a step
def test_the_demo_answers_and_serves_until_ctrl_c(demo_shop: Shop) -> None:
    process = demo_shop.start("demo", "--verbose")
    try:
        out = until_it_serves(process)
        if not WHOLE:
            assert re.search(r"^ +1 +Cold delivery +cold$", out, re.MULTILINE), out
        assert_steps_filled(out)
        assert_story_told(out)
        address = out.split()[1]
        assert httpx.get(f"{address}healthz", timeout=10).status_code == 200
        assert reads_of_orders(demo_shop) == READ_ONCE
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert demo_shop.nothing_runs()
    if not WHOLE:
        return  # the second run is for ``check-demo``: with little knowledge it is the same work again

    again = demo_shop.start("demo", "--exit", "--verbose")  # over the state of the first
    out, said = again.communicate(timeout=180)
    assert again.returncode == 0, said
    assert_steps_filled(out)
    assert_story_told(out)
    assert_quick(out, said)


def until_it_serves(process: Popen[str]) -> str:
    """Return the demo's output up to its last line; its first has the address of the console."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "All tenants are loaded" in line:
            break
    return "".join(lines)


def reads_of_orders(shop: Shop) -> Counter[str]:
    """Return how often the demo asked the order system for each path."""
    rows = json.loads(shop.run("tenant", "up", "--json"))["processes"]
    address = next(row["address"] for row in rows if row["name"] == "orders")
    asked = httpx.get(f"{address}/control/requests", timeout=10).json()
    return Counter(one["path"] for one in asked)


def assert_steps_filled(out: str) -> None:
    """Assert that each step of the procedure shows a value of the conversation's order, with source and
    time."""
    at = r"\(orders, \d\d:\d\d, (?:order 4471-2208|prescription 7301842-04417)\) \[\d\](?: ◂)?"
    day = r"[A-Z][a-z]{2} \d{1,2}, \d{4}"
    steps = [
        rf"^1\. Read the order's status [^\n]*: Delayed {at}$",
        rf"^2\. Give the promised date [^\n]*: {day} {at}$",
        rf"^3\. Read the refill's status: Filled and shipped {at}$",
        rf"^4\. Refill it on or after the next fill date, not before: {day} {at}$",
    ]
    asked = out.partition("Where is her order, and may I refill it?")[2]
    assert "in the conversation of customer PT-204417, signed by the care application" in asked
    for step in steps:
        assert re.search(step, asked, re.MULTILINE), out
    assert "[order status]" not in asked


def assert_quick(out: str, said: str) -> None:
    """Assert what "under ten seconds" rests on when the demo runs again: nothing is embedded anew, and the
    answers take less time than the start."""
    assert {new for _, _, new, _ in LOADED.findall(said)} == {"0"}, said
    start_s = max(map(float, STARTS.findall(said)))
    load_s = sum(float(seconds) for *_, seconds in LOADED.findall(said))
    answers_s = sum(map(float, TOOK.findall(out)[:3]))
    share = answers_s / (start_s + load_s + answers_s)
    parts = f"start {start_s} s, load what is known {load_s} s, three answers {answers_s:.2f} s"
    sys.stdout.write(f"\n{parts}: answers are {share:.0%}\n")
    assert share < 1 / 3


def assert_story_told(out: str) -> None:
    """Assert that a bad mark, approved by a second person, changed the next agent's answer, in this order."""
    steps = [
        r"amira, agent +asks: ",
        r"Not in the knowledge base\.",
        r"amira, agent +marks it bad, with a better text: ([^\n]+)",
        r"rosa, reviewer +finds the case at the desk after [\d.]+ s",
        r"rosa, reviewer +may not approve what she proposed",
        r"samuel, reviewer +reads it and approves it",
        r"noor, agent +asks: [^\n]+\nOffered, approved for [^\n]+:\n\1\n",
        r"The answer changed [\d.]+ s after the approval\.",
    ]
    assert re.search(".*?".join(steps), out, re.DOTALL), out
