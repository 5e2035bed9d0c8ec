"""Tables that options add to the tenant file are part of it like the core's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.options.sources.section import SourceConnector
from assistant.tenant.tenant import SourceEntry, TenantConfig, load_tenant

TESTS = Path(__file__).parents[2]
HASHES = {
    "company/tenants/company.toml": "a27d6950f8ac68b8bfecfad1441cc807456b1ef6afe1f26c5eb187d0f0ea07e1",
    "tenants/clinic.toml": "2c7c6e3be06d98b2bae6974c9aa3aacabbb4cf2f55d252f2b00b56502a601b53",
    "tenants/pharmacy.toml": "a635d2e1959c53495be10415d480bb1fd16db18f9e6ad8b6bb2e304fb66a5780",
    "tenants/sandbox.toml": "b36252f4ea108ebe66d6e2720a58c47c1bcb8943b0a303c3b37f092f04d80057",
    "tenants/shop.toml": "6f56f90033a4e93052cbf09b75daf5cd2711296b43e38ab0bd44fabe51501e38",
}
"""Of these files since ``[secrets] live_reads`` is gone: records of answers hold them. Only a key with
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


def test_an_option_reads_its_table_typed(tmp_path: Path) -> None:
    (source,) = loaded(tmp_path, WIKI).sources
    connector = SourceConnector.of(source)
    assert connector is not None
    assert connector.every_minutes == 60
    assert SourceConnector.of(SourceEntry(name="a", access="everyone")) is None


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
