from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.local.issuer.signing_key import load_or_create_signing_key, public_key_set


def test_the_key_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    load_or_create_signing_key(tmp_path)
    file = tmp_path / "issuer" / "signing-key.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_the_key_stays_the_same(tmp_path: Path) -> None:
    assert load_or_create_signing_key(tmp_path).kid == load_or_create_signing_key(tmp_path).kid


def test_processes_that_make_it_at_once_end_with_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(load_or_create_signing_key, [tmp_path] * 8))
    assert len({key.kid for key in keys}) == 1


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"kty":"oct","k":"c2VjcmV0"}'])
def test_a_broken_key_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "issuer" / "signing-key.json"
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=r"signing-key\.json"):
        load_or_create_signing_key(tmp_path)


def test_a_public_key_alone_is_refused(tmp_path: Path) -> None:
    import orjson

    public = public_key_set(load_or_create_signing_key(tmp_path))["keys"][0]
    (tmp_path / "issuer" / "signing-key.json").write_bytes(orjson.dumps(public))
    with pytest.raises(ConfigurationError, match="private"):
        load_or_create_signing_key(tmp_path)


def test_the_published_set_holds_no_private_part(tmp_path: Path) -> None:
    published = public_key_set(load_or_create_signing_key(tmp_path))["keys"][0]
    assert "d" not in published
    assert (published["alg"], published["use"], published["crv"]) == ("ES256", "sig", "P-256")
