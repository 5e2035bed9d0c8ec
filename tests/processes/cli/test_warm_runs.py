"""Commands while everything runs: ``tenant up`` once, then what a person does all day."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from tests.processes.cli.conftest import Shop

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("serving")]


@pytest.fixture(scope="module")
def serving(shop: Shop, asked: str) -> Iterator[str]:
    """The service's address while ``tenant up`` keeps everything running."""
    rows = json.loads(shop.run("tenant", "up", "--json"))["processes"]
    assert {row["state"] for row in rows} == {"ready"}
    yield next(row["address"] for row in rows if row["name"] == "service")
    shop.run("tenant", "down")
    assert shop.nothing_runs()


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


# Live data: the sample order system runs beside the service.


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
