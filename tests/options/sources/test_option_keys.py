"""Keys that options add to tables of the tenant file are part of those tables like the core's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.options.sources.section import ConnectedSource
from assistant.tenant.tenant import SourceEntry, TenantConfig, load_tenant
from assistant.tenant.toml_file import keys_of

TESTS = Path(__file__).parents[2]
HASHES = {
    "company/tenants/company.toml": "375ab3f6d27ec5f85ab3e7122b81aed3d4bee4707f4bbc64dc18549e850d5d4b",
    "tenants/clinic.toml": "79746b4ec64d5f165219a07eac279aae143020f4957a876aed348d80294bcd85",
    "tenants/pharmacy.toml": "12a3e8dbad7e88962dd8c4b4c4badbb1d21f9213700baf278d83d808456f23a0",
    "tenants/sandbox.toml": "f3343678806e1fbd8b8ab5b7f5c36e55181b28c56524eea8f281f02e63243dab",
    "tenants/shop.toml": "da48a21c2f0fcdf532c74f4a1b046e11e42b2243be5374acde883c6e5181888a",
}
"""Of these files since ``[generation] canary_sha256`` is gone: records of answers hold them. Only a key with
a say in answers or replies may change one."""
FILE = (
    'schema_version = 1\nname = "mine"\ndisplay_name = "Mine"\n[[sources]]\nname = "a"\naccess = "everyone"\n'
)
WIKI = '[sources.connector]\nkind = "mediawiki"\napi = "https://wiki.example.org/api.php"\n'


def loaded(folder: Path, more: str) -> TenantConfig:
    file = folder / "mine.toml"
    file.write_text(FILE + more)
    return load_tenant(file)


@pytest.mark.parametrize("file", HASHES)
def test_the_hash_of_an_unchanged_file_is_the_same(file: str) -> None:
    assert load_tenant(TESTS / file).settings_hash() == HASHES[file]


def test_an_option_reads_its_keys_typed(tmp_path: Path) -> None:
    (source,) = loaded(tmp_path, WIKI).sources
    connector = keys_of(source, ConnectedSource).connector
    assert connector is not None
    assert connector.every_minutes == 60
    made = SourceEntry(name="a", access="everyone")
    assert keys_of(made, ConnectedSource).connector is None
    assert keys_of(
        TenantConfig(schema_version=1, name="mine", display_name="Mine").sources[0], ConnectedSource
    )


def test_a_key_that_shapes_no_answer_is_not_hashed(tmp_path: Path) -> None:
    assert loaded(tmp_path, WIKI).settings_hash() == loaded(tmp_path, "").settings_hash()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (WIKI.replace("api", "apy"), r"line 7: unknown key sources\.0\.connector\.mediawiki\.apy"),
        ("conector = 1\n", r"line 7: unknown key sources\.0\.conector; allowed here: access, connector, "),
        (f'paths = ["here"]\n{WIKI}', r"line 4: sources\.0: .* has a connector"),
    ],
)
def test_an_error_names_the_key_as_one_of_the_core(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        loaded(tmp_path, more)


def test_a_class_that_extends_no_open_section_has_no_keys() -> None:
    with pytest.raises(TypeError, match="ConnectedSource joins no table TenantConfig"):
        keys_of(TenantConfig(schema_version=1, name="mine", display_name="Mine"), ConnectedSource)
