"""The commands as a person runs them, over the real processes and models, with knowledge of three files."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from local_processes import eventually, running

from assistant.operations.processes import find_marked
from assistant.operations.registry import Registry

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

DESK = "# Help desk\n\nThe help desk answers the phone from 8:00 to 18:30, Monday to Saturday.\n"
RETURNS = (
    "# Returns\n\nA customer may return an unopened item within 14 days. The store gives the money back.\n"
)
PAIR = '{"id": "lost-card", "question": "A lost member card?", "answer": "Block it within one hour."}'


@dataclass(frozen=True)
class Shop:
    """A folder with one tenant, its knowledge and its state."""

    folder: Path

    @property
    def registry(self) -> Registry:
        return Registry.under(self.folder / ".state")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "assistant.operations.main", "--port", "0", *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, status: int = 0) -> str:
        """Run a command to its end and return its stdout; the status must be the given one."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=180)
        assert process.returncode == status, err
        return out

    def nothing_runs(self) -> bool:
        return find_marked(self.registry.path) == []


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "tenants").mkdir()
    (folder / "tenants" / "shop.toml").write_text(
        'schema_version = 1\nname = "shop"\ndisplay_name = "Shop"\n[knowledge]\npaths = ["../notes"]\n'
    )
    (folder / "notes").mkdir()
    (folder / "notes" / "help-desk.md").write_text(DESK)
    (folder / "notes" / "returns.md").write_text(RETURNS)
    (folder / "notes" / "pairs.jsonl").write_text(PAIR + "\n")
    shop = Shop(folder)
    yield shop
    shop.run("local", "down")
    assert shop.nothing_runs()


@pytest.fixture(scope="module")
def asked(shop: Shop) -> str:
    """The output of the first question from cold: it loads the tenant file's knowledge by itself."""
    return shop.run("ask", "--tenant", "shop", "When does the help desk answer the phone?")


@pytest.fixture(scope="module")
def answer_id(asked: str) -> str:
    found = re.search(r"· ([0-9a-f]{32})$", asked, re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_first_question_loads_the_knowledge_and_names_its_source(shop: Shop, asked: str) -> None:
    assert re.search(r"^ +1 +Help desk +help-desk$", asked, re.MULTILINE)
    assert "/v1/documents/help-desk" in asked
    assert shop.nothing_runs()


def test_what_was_ingested_is_there_for_the_next_command(shop: Shop, asked: str) -> None:
    found = json.loads(shop.run("knowledge", "list", "--tenant", "shop", "--json"))
    assert found["counts"]["live"] == 3
    assert {one["document_id"] for one in found["documents"]} == {"help-desk", "returns", "lost-card"}


def test_a_second_load_of_the_same_brings_nothing(shop: Shop, asked: str) -> None:
    found = json.loads(shop.run("knowledge", "add", "--tenant", "shop", "--json"))
    assert (found["added"], found["changed"], found["unchanged"]) == (0, 0, 3)


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


def test_a_file_of_questions_gets_document_ids_and_its_bad_lines_are_named(shop: Shop, asked: str) -> None:
    (shop.folder / "q.jsonl").write_text('{"qid": "a", "question": "lost member card"}\nbroken\n')
    process = shop.start(
        "search", "--tenant", "shop", "--queries", "q.jsonl", "--top", "2", "--out", "run.jsonl"
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "q.jsonl:2: " in err
    (line,) = (shop.folder / "run.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert (row["qid"], row["ids"][0], len(row["ids"])) == ("a", "lost-card", 2)


def test_two_commands_at_once_from_cold_both_succeed(shop: Shop, asked: str) -> None:
    both = [shop.start("search", "--tenant", "shop", "--json", "returns") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert json.loads(out)["documents"]
    assert shop.nothing_runs()


def test_replay_shows_the_answer_again_with_the_text_of_its_passages(
    shop: Shop, asked: str, answer_id: str
) -> None:
    replayed = shop.run("replay", "--tenant", "shop", answer_id)
    assert replayed.startswith("When does the help desk answer the phone?")
    assert "from 8:00 to 18:30" in replayed
    assert "gate       passed" in replayed


def test_replay_for_a_program_has_record_and_texts(shop: Shop, asked: str, answer_id: str) -> None:
    found = json.loads(shop.run("replay", "--tenant", "shop", "--json", answer_id))["record"]
    assert found["answer_id"] == answer_id
    assert any("18:30" in passage["text"] for passage in found["passages"])


def test_a_document_that_fails_is_named_by_line_and_the_rest_is_loaded(shop: Shop, asked: str) -> None:
    (shop.folder / "more.jsonl").write_text(
        '{"id": "x", "question": "Q", "answer": "A text."}\n{"id": "y"}\n'
    )
    process = shop.start("knowledge", "add", "--tenant", "shop", "more.jsonl")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "2 read = 1 documents + 0 duplicates + 1 failures" in out
    assert "more.jsonl:2: missing or empty: question, answer" in err


def test_withdrawing_asks_and_then_takes_the_document_out(shop: Shop, asked: str) -> None:
    (shop.folder / "old.md").write_text("# Old rule\n\nDogs may not enter the bakery.\n")
    shop.run("knowledge", "add", "--tenant", "shop", "old.md")
    shop.run("knowledge", "withdraw", "--tenant", "shop", "old", status=1)
    shop.run("knowledge", "withdraw", "--tenant", "shop", "old", "--yes")
    found = json.loads(shop.run("search", "--tenant", "shop", "--json", "Dogs may not enter the bakery."))
    assert "old" not in {one["document_id"] for one in found["documents"]}
    status = json.loads(shop.run("knowledge", "status", "--tenant", "shop", "old", "--json"))
    assert status["state"] == "withdrawn"


def test_local_up_serves_until_local_down(shop: Shop, asked: str) -> None:
    rows = json.loads(shop.run("local", "up", "--json"))["processes"]
    assert {row["state"] for row in rows} == {"ready"}
    service = next(row["address"] for row in rows if row["name"] == "service")
    token = shop.run("token", "--tenant", "shop", "--agent", "ann").strip()
    asking = httpx.post(
        f"{service}/v1/answers",
        json={"question": "May a customer return an unopened item?"},
        headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
        timeout=60,
    )
    answer = asking.json()
    assert asking.status_code == 200, answer
    verdict = httpx.post(
        f"{service}/v1/answers/{answer['answer_id']}/verdict",
        json={"verdict_id": "v1", "label": "good", "reasons": ["clear"]},
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    assert verdict.is_success, verdict.text
    (stored,) = json.loads(shop.run("verdicts", "--tenant", "shop", "--json"))["verdicts"]
    assert (stored["answer_id"], stored["agent"]) == (answer["answer_id"], "ann")
    explained = shop.run("ask", "--tenant", "shop", "--explain", "May a customer return an unopened item?")
    for heading in ("fused", "BM25", "cosine", "gate", "prompt", "ms"):
        assert heading in explained
    shop.run("local", "down")
    assert shop.nothing_runs()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_question_leaves_no_process(shop: Shop, asked: str, number: signal.Signals) -> None:
    process = shop.start("ask", "--tenant", "shop", "When does the help desk answer the phone?")
    eventually(lambda: "llm" in running(shop.registry).processes, within_s=60)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert shop.nothing_runs()
