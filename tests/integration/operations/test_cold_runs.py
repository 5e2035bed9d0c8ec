"""Commands from cold, over the real processes and models: each starts what it needs and stops it."""

from __future__ import annotations

import json
import re
import signal

import pytest
from local_processes import eventually, running
from shop import Shop

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def test_the_first_question_loads_the_knowledge_and_names_its_source(shop: Shop, asked: str) -> None:
    assert re.search(r"^ +1 +Help desk +help-desk$", asked, re.MULTILINE)
    assert "/v1/documents/help-desk" in asked
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
    eventually(lambda: "llm" in running(shop.registry).processes, within_s=60)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert shop.nothing_runs()
