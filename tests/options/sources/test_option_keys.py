"""Tables that options add to the tenant file are part of it like the core's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.options.sources.section import SourceConnector
from assistant.tenant.tenant import SourceEntry, TenantConfig, load_tenant

TESTS = Path(__file__).parents[2]
HASHES = {
    "company/tenants/company.toml": "cabe57f76cd7c713d58c7e3dd5be3efc4d8eb19d56d1265074a3372e7d13f2d0",
    "tenants/clinic.toml": "9a83a7498bddf519551b4cc42eff86cc712d611bef8df7b4779456926de00cd5",
    "tenants/pharmacy.toml": "a9c329c7ec26f549aa8a2be9f03a93eae4589c106b491010e1c3144c6d05c2f9",
    "tenants/sandbox.toml": "efb3f218cdd1a7b3800a8c4afb0dbfa8c168db225ffb1a6b164382367e7ee4c9",
    "tenants/shop.toml": "9882c67b6468e9af9bfca975d960f18a73f00127734c9069e46fe0057529700f",
}
"""Of these files since ``[answers] prompt`` is gone: records of answers hold them. Only a key with
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
