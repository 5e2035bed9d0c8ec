"""Sources, labels and what is refused, from a terminal: real files, real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.cli.conftest import Shop, open_shop

TENANT = """schema_version = 1
name = "shop"
display_name = "Shop"
labels = ["hr", "staff"]
[[sources]]
name = "notes"
access = "everyone"
namespace = ""
paths = ["../notes"]
[[sources]]
name = "wiki"
access = "folder"
folders = { "" = ["staff"] }
paths = ["../wiki"]
[[sources]]
name = "pay"
access = "declared"
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = open_shop(tmp_path)
    (tmp_path / "tenants" / "shop.toml").write_text(TENANT)
    (tmp_path / "wiki").mkdir()
    (tmp_path / "wiki" / "returns.md").write_text("# Returns\n\nThe wiki's page of returns.\n")
    made.run("tenant", "up")  # else each command starts and stops what it needs
    yield made
    made.run("tenant", "down")


def listed(shop: Shop, *options: str) -> dict[str, dict[str, object]]:
    found = json.loads(shop.run("--json", "knowledge", "list", "--tenant", "shop", *options))
    return {one["document_id"]: one for one in found["documents"]}


def test_sources_and_their_labels_by_the_command_line(shop: Shop) -> None:
    shop.run("knowledge", "add", "--tenant", "shop")
    documents = listed(shop)
    assert {one: document["knowledge_source"] for one, document in documents.items()} == {
        "help-desk": "notes",
        "lost-card": "notes",
        "returns": "notes",
        "wiki:returns": "wiki",
    }
    assert (documents["returns"]["labels"], documents["wiki:returns"]["labels"]) == ([], ["staff"])
    assert list(listed(shop, "--source", "wiki")) == ["wiki:returns"]

    (shop.folder / "notes" / "returns.md").write_text("---\nlabels: [hr]\n---\n# Returns\n\nSecret.\n")
    shop.run("knowledge", "add", "--tenant", "shop")
    (shop.folder / "notes" / "returns.md").write_text("# Returns\n\nSecret.\n")
    shop.run("knowledge", "add", "--tenant", "shop", status=1)
    assert listed(shop)["returns"]["labels"] == ["hr"]
    shop.run("knowledge", "add", "--tenant", "shop", "--label", "hr")
    assert listed(shop)["returns"]["labels"] == []

    tenant = shop.folder / "tenants" / "shop.toml"
    tenant.write_text(TENANT.replace('"hr", "staff"', '"hr"').replace('"" = ["staff"]', '"" = []'))
    (shop.folder / "wiki" / "returns.md").write_text(
        "---\nlabels: [staff]\n---\n# Returns\n\nWithin 30 days.\n"
    )
    shop.run("knowledge", "add", "--tenant", "shop", "--source", "wiki", str(shop.folder / "wiki"), status=1)
    assert listed(shop)["wiki:returns"]["state"] == "withheld"


def test_a_file_that_left_its_folder_is_named_and_withdrawn_on_request(shop: Shop) -> None:
    shop.run("knowledge", "add", "--tenant", "shop")
    (shop.folder / "notes" / "returns.md").unlink()
    (shop.folder / "notes" / "lost-card.md").write_text("---\nid: [\n---\n# A file that cannot be read\n")
    report = json.loads(shop.run("--json", "knowledge", "add", "--tenant", "shop", status=1))
    assert report["left"] == ["returns"]
    assert listed(shop)["returns"]["state"] == "live"
    shop.run("knowledge", "add", "--tenant", "shop", "--prune", "--yes", status=1)
    assert listed(shop)["returns"]["state"] == "withdrawn"
    assert listed(shop)["help-desk"]["state"] == "live"


def test_a_folder_that_lost_more_than_a_third_is_not_pruned_by_one_word(shop: Shop) -> None:
    shop.run("knowledge", "add", "--tenant", "shop")
    for name in ("returns", "help-desk"):
        (shop.folder / "notes" / f"{name}.md").unlink()
    shop.run("knowledge", "add", "--tenant", "shop", "--prune", "--yes", status=1)
    assert listed(shop)["returns"]["state"] == "live"
    shop.run("knowledge", "add", "--tenant", "shop", "--prune", "--prune-more-than-a-third", "--yes")
    assert listed(shop)["returns"]["state"] == listed(shop)["help-desk"]["state"] == "withdrawn"
