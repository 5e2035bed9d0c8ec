"""Tables that options add to the tenant file are part of it like the core's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.options.sources.section import SourceConnector
from assistant.tenant.tenant import SourceEntry, TenantConfig, load_tenant

TESTS = Path(__file__).parents[2]
HASHES = {
    "company/tenants/company.toml": "ad1af72a478eaab948cb1df3e7aaa130e1998781d321b7a60a557bee179b3a6f",
    "tenants/clinic.toml": "34bc5139058840ed2b13993200b0293a7cc68de0d1d4b43f7e5c4401c9485d65",
    "tenants/pharmacy.toml": "41a12342f1a33db2e74a4e5edb3f9b2b34d47c244363e2bfea3d985673e41298",
    "tenants/sandbox.toml": "a4d85d5318467476f3251dae1c5f4e3f135c6f511011e06fdc2f72f626d8574a",
    "tenants/shop.toml": "d2f30bff214a26a93f3d3b7122e82b56fe500c1f4641d4d4e7116796f0544d57",
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
