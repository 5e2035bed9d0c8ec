from __future__ import annotations

import stat
from pathlib import Path

import pytest

from assistant.document_links import link_secret
from assistant.domain.errors import ConfigurationError
from assistant.settings.tenant import TenantConfig


def tenant(reference: str, *, name: str = "clinic") -> TenantConfig:
    return TenantConfig.model_validate(
        {
            "schema_version": 1,
            "name": name,
            "display_name": "Clinic",
            "secrets": {"document_links": reference},
        }
    )


def secret(reference: str, folder: Path, *, name: str = "clinic") -> bytes:
    return link_secret(
        tenant(reference, name=name), tenants_dir=folder / "tenants", state_dir=folder / "state"
    )


def test_a_state_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    first = secret("state:document-links", tmp_path)
    assert len(first) >= 32
    assert secret("state:document-links", tmp_path) == first
    file = tmp_path / "state" / "secrets" / "clinic" / "document-links"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_each_tenant_has_a_secret_of_its_own(tmp_path: Path) -> None:
    assert secret("state:s", tmp_path) != secret("state:s", tmp_path, name="pharmacy")


def test_a_file_secret_is_read_beside_the_tenant_file(tmp_path: Path) -> None:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "key").write_bytes(b"k" * 32 + b"\n")
    assert secret("file:key", tmp_path) == b"k" * 32


def test_a_missing_file_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"clinic\.toml: secrets\.document_links: .*absent"):
        secret("file:absent", tmp_path)


def test_a_short_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "key").write_bytes(b"k" * 31)
    with pytest.raises(ConfigurationError, match="32 bytes"):
        secret("file:key", tmp_path)


@pytest.mark.parametrize("reference", ["", "state:", "state:../x", "state:A", "file:", "env:KEY", "plain"])
def test_another_reference_is_refused(tmp_path: Path, reference: str) -> None:
    with pytest.raises(ConfigurationError, match=r"secrets\.document_links"):
        secret(reference, tmp_path)
