"""A wrong tenant file or environment is said in one sentence that names file, key and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.settings import LocalIssuerSettings, ServiceSettings, load_tenant, load_tenants

GOOD = 'schema_version = 1\nname = "clinic"\ndisplay_name = "Clinic"\n'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (GOOD + "colour = 1", "unknown key colour; allowed here: .*display_name"),
        (
            GOOD + "[gate]\nmin_cosinus = 1",
            "unknown key gate.min_cosinus; allowed here: min_cosine, min_coverage",
        ),
        (GOOD + "[retrieval]\npassages = true", r"retrieval\.passages"),
        (GOOD + '[retrieval]\npassages = "many"', r"retrieval\.passages: .*got 'many'"),
        (GOOD + "[retrieval]\npassages = 0", r"retrieval\.passages: .*greater than or equal to 1"),
        (GOOD.replace('"Clinic"', '""'), "display_name"),
        (GOOD.replace('"clinic"', '"Clinic One"'), "name"),
        (GOOD.replace("schema_version = 1", "schema_version = 2"), "schema_version"),
        (GOOD.replace('"clinic"', '"pharmacy"'), "must equal the file's name"),
        ('name = "clinic"', "schema_version.*display_name"),
        ("not toml", "not valid TOML"),
    ],
)
def test_a_wrong_tenant_file_is_named_with_its_key(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "clinic.toml"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=f"(?s){file}: .*{says}"):
        load_tenant(file)


def test_a_tenant_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "clinic.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"clinic\.toml: not valid TOML"):
        load_tenants(tmp_path)


@pytest.mark.parametrize("folder", ["absent", "."], ids=["no folder", "no file in it"])
def test_a_folder_without_tenants_is_named(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no such folder|no tenant file"):
        load_tenants(tmp_path / folder)


def test_what_one_process_gives_another_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    given = LocalIssuerSettings(port=1234, redirect_origins=("http://a", "http://b"), state_dir=Path("/s"))
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    assert LocalIssuerSettings.read() == given


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"ASSISTANT_SERVICE_ISSUER.*ASSISTANT_SERVICE_JWKS_URL"):
        ServiceSettings.read()


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANT_ISSUER_PORT", "high")
    with pytest.raises(ConfigurationError, match="ASSISTANT_ISSUER_PORT"):
        LocalIssuerSettings.read()


def test_a_list_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANT_ISSUER_REDIRECT_ORIGINS", "http://a")
    with pytest.raises(ConfigurationError, match="redirect_origins"):
        LocalIssuerSettings.read()
