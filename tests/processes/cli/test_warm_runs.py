"""Commands while everything runs: ``tenant up`` once, then what a person does all day."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator

import httpx
import pytest
from shop import Shop

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("serving")]


@pytest.fixture(scope="module")
def serving(shop: Shop, asked: str) -> Iterator[str]:
    """The service's address while ``tenant up`` keeps everything running."""
    rows = json.loads(shop.run("tenant", "up", "--json"))["processes"]
    assert {row["state"] for row in rows} == {"ready"}
    yield next(row["address"] for row in rows if row["name"] == "service")
    shop.run("tenant", "down")
    assert shop.nothing_runs()


@pytest.fixture(scope="module")
def answer_id(asked: str) -> str:
    found = re.search(r"· ([0-9a-f]{32})$", asked, re.MULTILINE)
    assert found is not None
    return found[1]


def test_an_audit_lists_what_was_answered_and_replayed(shop: Shop, asked: str, answer_id: str) -> None:
    shop.run("desk", "replay", "--tenant", "shop", answer_id)
    lines = shop.run("desk", "audit", "--tenant", "shop", "--document", "help-desk", "--json").splitlines()
    entries = [json.loads(line) for line in lines]
    assert ("agent", "asked", answer_id) in [
        (one["agent"], one["kind"], one["subject_id"]) for one in entries
    ]
    own = [one for one in entries if one["agent"] == f"cli:uid-{os.getuid()}"]
    assert [one["kind"] for one in own][-1:] == ["answer"]


def test_replay_shows_the_answer_again_with_the_text_of_its_passages(
    shop: Shop, asked: str, answer_id: str
) -> None:
    replayed = shop.run("desk", "replay", "--tenant", "shop", answer_id)
    assert replayed.startswith("When does the help desk answer the phone?")
    assert "from 8:00 to 18:30" in replayed
    assert "passed yes" in replayed


def test_a_document_that_fails_is_named_by_line_and_the_rest_is_loaded(shop: Shop, asked: str) -> None:
    (shop.folder / "more.jsonl").write_text(
        '{"id": "x", "question": "Q", "answer": "A text."}\n{"id": "y"}\n'
    )
    process = shop.start("knowledge", "add", "--tenant", "shop", "more.jsonl")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "2 read = 1 documents + 0 duplicates + 0 withdrawn + 1 failures" in out
    assert "more.jsonl:2: missing: question and answer, or title and text" in err


def test_withdrawing_asks_and_then_takes_the_document_out(shop: Shop, asked: str) -> None:
    (shop.folder / "old.md").write_text("# Old rule\n\nDogs may not enter the bakery.\n")
    shop.run("knowledge", "add", "--tenant", "shop", "old.md")
    shop.run("knowledge", "withdraw", "--tenant", "shop", "old", status=1)
    shop.run("knowledge", "withdraw", "--receipt", "--tenant", "shop", "old", status=1)
    shown = shop.run("knowledge", "withdraw", "--tenant", "shop", "old", "--yes")
    assert "complete" in shown
    again = shop.run("knowledge", "withdraw", "--receipt", "--tenant", "shop", "old", "--json")
    (receipt,) = json.loads(again)["receipts"]
    assert receipt["is_complete"]
    counted = [place["found"] for place in receipt["places"] if place["found"] is not None]
    assert len(counted) >= 5
    assert not any(counted)
    found = json.loads(shop.run("ask", "--tenant", "shop", "--json", "Dogs may not enter the bakery."))
    assert "old" not in {one["document_id"] for one in found["sources"]}
    listed = json.loads(shop.run("knowledge", "list", "--tenant", "shop", "--only", "withdrawn", "--json"))
    assert [one["document_id"] for one in listed["documents"]] == ["old"]


def test_a_printed_token_opens_the_service_and_a_verdict_is_listed(shop: Shop, serving: str) -> None:
    token = shop.run("tenant", "token", "--tenant", "shop", "--agent", "ann").strip()
    with httpx.Client(base_url=serving, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        asking = client.post(
            "/v1/answers",
            json={"question": "May a customer return an unopened item?"},
            headers={"Accept": "application/json"},
        )
        assert asking.status_code == 200, asking.text
        answer_id = asking.json()["answer_id"]
        body = {"verdict_id": "v1", "label": "good", "reasons": ["clear"]}
        verdict = client.post(f"/v1/answers/{answer_id}/verdict", json=body)
        assert verdict.is_success, verdict.text
    (stored,) = json.loads(shop.run("desk", "replay", "--tenant", "shop", "--json", answer_id))["verdicts"]
    assert (stored["answer_id"], stored["agent"]) == (answer_id, "ann")


# Live data: the sample order system runs beside the service.
ORDER = "4471-2208"
WHOSE = ("--customer", "PT-204417", "--id", f"order={ORDER}")
WHERE = "What status of an order does the agent read to the caller?"
STEP = "The agent reads the status of an order to the caller:"


@pytest.fixture
def orders(shop: Shop) -> Iterator[httpx.Client]:
    """The order system; a test may set its faults."""
    rows = json.loads(shop.run("tenant", "up", "--json"))["processes"]
    address = next(row["address"] for row in rows if row["name"] == "orders")
    with httpx.Client(base_url=address, timeout=10) as client:
        yield client
        client.put("/control/fault", content="")


def test_a_step_is_filled_with_the_order_of_the_conversation(shop: Shop, orders: httpx.Client) -> None:
    answer = shop.run("ask", "--tenant", "shop", WHERE, *WHOSE)
    assert re.search(rf"{STEP} Delayed \(orders, \d\d:\d\d, order {ORDER}\) \[1\]", answer), answer


def test_a_demo_beside_what_serves_names_it_its_folder_and_how_to_stop_it(shop: Shop, serving: str) -> None:
    address = shop.address()
    assert address is not None
    demo = shop.start("demo")
    assert demo.stdout is not None
    try:
        shown = ""
        while "assistant tenant down" not in shown:
            line = demo.stdout.readline()
            assert line, shown
            shown += line
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=60)
    of_up = f"assistant tenant up (process {address.pid}, in {shop.folder})"
    assert f"This service is of {of_up}." in shown
    assert "Ctrl-C ends this command alone" in shown
    assert demo.returncode == 0
    assert shop.address() == address


# The last one: each change of the tenant files starts everything anew.


def test_a_tenant_file_that_was_added_is_served_by_what_runs(shop: Shop, serving: str) -> None:
    tenant = (shop.folder / "tenants" / "shop.toml").read_text()
    added = shop.folder / "tenants" / "second.toml"
    added.write_text(tenant.replace('"shop"', '"second"'))
    try:
        answer = shop.run("ask", "--tenant", "second", "When does the help desk answer the phone?")
        assert "help-desk" in answer
    finally:
        added.unlink()
    states = json.loads(shop.run("tenant", "up", "--json"))["processes"]
    assert {row["state"] for row in states} == {"ready"}
    assert serving in {row["address"] for row in states}
