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
    "company/tenants/company.toml": "f8337cbe70f4e7cfd9ce66e4b1e1cfdbf6b23d0578e72a3881d6b405097225d4",
    "tenants/clinic.toml": "a0a4024c9c09cfc4251302d551706112ae0dce2c261adfd8765cf60ee173c692",
    "tenants/pharmacy.toml": "7c0b778a2562e405b41c5d46a061b3e8cbec90aae0c7d161dcfe16e7186a8136",
    "tenants/sandbox.toml": "7ebedf219f452e4503751ba5212b7b02c941479fc23c9f46261299db856b3b73",
    "tenants/shop.toml": "f2462bdb73ed58a6822202bf119cd1bb444f160d63d1ee318efa55a4347b10a4",
}
"""Of these files before options had keys of their own: records of answers hold them."""
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
