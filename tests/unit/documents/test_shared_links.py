"""Signed links to documents, and the secret that signs them."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from assistant.documents.shared_links import SignedDocumentLinks, local_secret, tenant_of_link
from assistant.domain.documents import Span
from assistant.domain.errors import ConfigurationError, UnauthenticatedError
from assistant.domain.identity import Identity, Role
from tests.stage.tenant_stores import SteppedClock

ANN = Identity("clinic", "ann", frozenset({Role.AGENT}), frozenset({"hr", "desk"}))


def links(clock: SteppedClock, *, tenant: str = "clinic", secret: bytes = b"s" * 32) -> SignedDocumentLinks:
    return SignedDocumentLinks(tenant=tenant, secret=secret, clock=clock)


def token_of(path: str) -> str:
    return urlsplit(path).fragment


def a_link(clock: SteppedClock) -> str:
    return links(clock).link("refill/§1 50%", span=Span(3, 9), identity=ANN, content_hash="h")


def test_a_link_carries_who_may_read_what_until_when() -> None:
    clock = SteppedClock()
    token = token_of(a_link(clock))
    grant = links(clock).open(token)
    assert tenant_of_link(token) == "clinic"
    assert (grant.tenant, grant.agent, grant.labels) == ("clinic", "ann", ("desk", "hr"))
    assert (grant.document_id, grant.content_hash, grant.span) == ("refill/§1 50%", "h", (3, 9))
    assert grant.expires_s == clock.now().timestamp() + 600


def test_what_a_browser_sends_of_a_link_opens_nothing() -> None:
    assert a_link(SteppedClock()).partition("#")[0] == "/open"


def test_a_link_ends_after_ten_minutes() -> None:
    clock = SteppedClock()
    token = token_of(a_link(clock))
    clock.step(599)
    links(clock).open(token)
    clock.step(1)
    with pytest.raises(UnauthenticatedError):
        links(clock).open(token)


@pytest.mark.parametrize("part", [1, 2], ids=["what it allows", "signature"])
def test_an_altered_link_does_not_hold(part: int) -> None:
    clock = SteppedClock()
    parts = token_of(a_link(clock)).split(".")
    parts[part] = ("A" if parts[part][0] != "A" else "B") + parts[part][1:]
    with pytest.raises(UnauthenticatedError):
        links(clock).open(".".join(parts))


@pytest.mark.parametrize(
    "token", ["", ".", "..", "clinic..", "clinic.é.é", "a.b.c.d", "clinic." + "A" * 9000]
)
def test_garbage_is_no_link(token: str) -> None:
    with pytest.raises(UnauthenticatedError):
        links(SteppedClock()).open(token)


@pytest.mark.parametrize("opener", [{"secret": b"t" * 32}, {"tenant": "pharmacy"}], ids=["secret", "name"])
def test_a_link_of_another_secret_or_tenant_does_not_hold(opener: dict[str, Any]) -> None:
    clock = SteppedClock()
    with pytest.raises(UnauthenticatedError):
        links(clock, **opener).open(token_of(a_link(clock)))


def secret(reference: str, folder: Path, *, name: str = "clinic") -> bytes:
    return local_secret(
        reference,
        tenant=name,
        key="secrets.document_links",
        tenants_dir=folder / "tenants",
        state_dir=folder / "state",
    )


def test_a_state_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    first = secret("state:document-links", tmp_path)
    assert len(first) >= 32
    assert secret("state:document-links", tmp_path) == first
    assert secret("state:document-links", tmp_path, name="pharmacy") != first
    file = tmp_path / "state" / "secrets" / "clinic" / "document-links"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_secret_is_read_beside_the_tenant_file(tmp_path: Path) -> None:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "key").write_bytes(b"k" * 32 + b"\n")
    assert secret("file:key", tmp_path) == b"k" * 32


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        *((wrong, "") for wrong in ("", "state:", "state:../x", "state:A", "file:", "env:KEY", "plain")),
        ("file:absent", ".*absent"),
        ("file:short", ".*32 bytes"),
    ],
)
def test_another_reference_a_missing_and_a_short_file_are_named(
    tmp_path: Path, reference: str, said: str
) -> None:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "short").write_bytes(b"k" * 31)
    with pytest.raises(ConfigurationError, match=rf"secrets\.document_links{said}"):
        secret(reference, tmp_path)
