"""Commands while everything runs: ``tenant up`` once, then what a person does all day: sources, labels and
what is refused, with real files."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes.cli.conftest import Shop, open_shop

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("serving")]
BRANCH = """schema_version = 1
name = "{name}"
display_name = "{name}"
labels = ["hr", "staff"]
[[sources]]
name = "notes"
access = "everyone"
namespace = ""
paths = ["../{name}/notes"]
[[sources]]
name = "wiki"
access = "folder"
folders = {{ "" = ["staff"] }}
paths = ["../{name}/wiki"]
[[sources]]
name = "pay"
access = "declared"
"""


@dataclass(frozen=True)
class Branch:
    """Another tenant of the same site, with sources of its own."""

    shop: Shop
    name: str

    @property
    def folder(self) -> Path:
        return self.shop.folder / self.name

    def add(self, *options: str, status: int = 0) -> str:
        command = ("--json", "knowledge", "add", "--tenant", self.name, *options)
        return self.shop.run(*command, status=status)

    def listed(self, *options: str) -> dict[str, dict[str, object]]:
        found = json.loads(self.shop.run("--json", "knowledge", "list", "--tenant", self.name, *options))
        return {one["document_id"]: one for one in found["documents"]}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop and three branches of it."""
    made = open_shop(tmp_path_factory.mktemp("shop"))
    for name in ("north", "south", "east"):
        branch = Branch(made, name)
        branch.folder.mkdir()
        open_shop(branch.folder)
        (made.folder / "tenants" / f"{name}.toml").write_text(BRANCH.format(name=name))
        (branch.folder / "wiki").mkdir()
        (branch.folder / "wiki" / "returns.md").write_text("# Returns\n\nThe wiki's page of returns.\n")
    return made


@pytest.fixture(scope="module")
def serving(shop: Shop) -> Iterator[str]:
    """The service's address while ``tenant up`` keeps everything running."""
    rows = json.loads(shop.run("tenant", "up", "--json"))["processes"]
    assert {row["state"] for row in rows} == {"ready"}
    yield next(row["address"] for row in rows if row["name"] == "service")
    shop.run("tenant", "down")
    assert shop.nothing_runs()


def test_a_file_that_left_its_folder_is_named_and_withdrawn_on_request(shop: Shop) -> None:
    branch = Branch(shop, "north")
    branch.add()
    (branch.folder / "notes" / "returns.md").unlink()
    (branch.folder / "notes" / "lost-card.md").write_text("---\nid: [\n---\n# A file that cannot be read\n")
    assert json.loads(branch.add(status=1))["left"] == ["returns"]
    assert branch.listed()["returns"]["state"] == "live"
    branch.add("--prune", "--yes", status=1)
    states = {name: one["state"] for name, one in branch.listed().items()}
    assert (states["returns"], states["help-desk"]) == ("withdrawn", "live")


def test_a_folder_that_lost_more_than_a_third_is_not_pruned_by_one_word(shop: Shop) -> None:
    branch = Branch(shop, "south")
    branch.add()
    for name in ("returns", "help-desk"):
        (branch.folder / "notes" / f"{name}.md").unlink()
    branch.add("--prune", "--yes", status=1)
    assert branch.listed()["returns"]["state"] == "live"
    branch.add("--prune", "--prune-more-than-a-third", "--yes")
    states = {name: one["state"] for name, one in branch.listed().items()}
    assert states["returns"] == states["help-desk"] == "withdrawn"


def test_withdrawing_asks_and_then_takes_the_document_out(shop: Shop) -> None:
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


# The last ones: each change of the tenant files starts everything anew.


def test_sources_and_their_labels_by_the_command_line(shop: Shop) -> None:
    branch = Branch(shop, "east")
    branch.add()
    documents = branch.listed()
    assert {one: document["knowledge_source"] for one, document in documents.items()} == {
        "help-desk": "notes",
        "lost-card": "notes",
        "returns": "notes",
        "wiki:returns": "wiki",
    }
    assert (documents["returns"]["labels"], documents["wiki:returns"]["labels"]) == ([], ["staff"])
    assert list(branch.listed("--source", "wiki")) == ["wiki:returns"]

    returns, wiki = branch.folder / "notes" / "returns.md", branch.folder / "wiki"
    returns.write_text("---\nlabels: [hr]\n---\n# Returns\n\nSecret.\n")
    branch.add()
    returns.write_text("# Returns\n\nSecret.\n")
    branch.add(status=1)
    assert branch.listed()["returns"]["labels"] == ["hr"]
    branch.add("--label", "hr")
    assert branch.listed()["returns"]["labels"] == []

    narrowed = (
        BRANCH.format(name="east").replace('"hr", "staff"', '"hr"').replace('"" = ["staff"]', '"" = []')
    )
    (shop.folder / "tenants" / "east.toml").write_text(narrowed)
    (wiki / "returns.md").write_text("---\nlabels: [staff]\n---\n# Returns\n\nWithin 30 days.\n")
    branch.add("--source", "wiki", str(wiki), status=1)
    assert branch.listed()["wiki:returns"]["state"] == "withheld"


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
