"""Which documents a link between the files of a source may mean."""

from __future__ import annotations

import pytest

from assistant.documents.files import linked_ids


@pytest.mark.parametrize(
    ("origin", "address", "own_id"),
    [
        ("it/vpn.md", "../hr/leave.md#how", "hr-leave"),
        ("it/vpn.md", "../hr/my%20leave.html?x=1", "hr-my-leave"),
        ("it/vpn.md", "../hr/", "hr-README"),
        ("it/vpn.md", "..", "index"),
        ("it/vpn.md", "fees.pdf", "it-fees.pdf"),
        ("it/vpn.md", "setup/", "it-vpn-setup"),  # a page whose address is a folder
        ("site/it/vpn.md", "/hr/leave", "site-hr-leave"),  # the site's root is below the source's
        ("it/vpn.html.md.erb", "leave.html", "it-leave.html.md"),
        ("it/vpn.html.md.erb", "/", "index.html.md"),
    ],
)
def test_a_link_means_a_file_of_its_source(origin: str, address: str, own_id: str) -> None:
    assert f"wiki:{own_id}" in linked_ids(address, document_id="wiki:a", origin=origin)


@pytest.mark.parametrize(
    "address",
    ["../../a.md", "/../a.md/../..", "https://a.example/b", "//a/b", "#a", "mailto:a@b", "http://["],
)
def test_a_link_elsewhere_means_no_file(address: str) -> None:
    assert list(linked_ids(address, document_id="a", origin="a.md")) == []
