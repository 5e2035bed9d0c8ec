"""Tables that options add to the tenant file are part of it like the core's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.options.sources.section import SourceConnector
from assistant.tenant.tenant import SourceEntry, TenantConfig, load_tenant

TESTS = Path(__file__).parents[2]
HASHES = {
    "company/tenants/company.toml": "157bf70b25740d05a589cf0c3184f61f7560460241a4134562772e2cd1b0770b",
    "tenants/clinic.toml": "99741dc257bb3467f6e766c954b7caf0b9a823b1df607463e0b763e152bbb727",
    "tenants/pharmacy.toml": "f7cbecbb92d6042862a25f2dcc4888a900112129cdffbb5ee193c6f1598606f6",
    "tenants/sandbox.toml": "f6c78ba3cd690126fa38a9c119af5a71873533bcdd5e754359472641c0fa6172",
    "tenants/shop.toml": "65871b7f48f0cae1204d29db33b95f4ce771312cab647675881dc877033f8b44",
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
