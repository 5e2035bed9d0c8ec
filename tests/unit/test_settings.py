"""An invalid tenant file or environment gives one sentence that names file, key and allowed values."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.process.settings import LocalSettings, ModelServerSettings, ServiceSettings, WorkerSettings
from assistant.tenant.tenant import TenantConfig, load_tenant, load_tenants

GOOD = 'schema_version = 1\nname = "clinic"\ndisplay_name = "Clinic"\n'
FLAG = '[[red_flags]]\nname = "fire"\ntext = "Go."\ncall = "911"\nexamples = ["a", "b", "c", "d", "e"]\n'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (GOOD + "colour = 1", "unknown key colour; allowed here: .*display_name"),
        (
            GOOD + "[gate]\nmin_cosinus = 1",
            "unknown key gate.min_cosinus; allowed here: model_cosine",
        ),
        (
            GOOD + "[gate]\nmin_cosine = 0.4",
            r"line 5: gate.min_cosine was removed in 0\.3\.0: without a model the nearest section is shown",
        ),
        (
            GOOD + "[feedback]\nedits = false",
            r"feedback was removed .*: write \[desk\.feedback\] with the same",
        ),
        (
            GOOD + "[review]\nopen_cases_per_agent = 5",
            r"review\.open_cases_per_agent was removed .*: write open_cases_per_agent below \[desk\]",
        ),
        (
            GOOD + '[generation]\nbedrock = "a.b"\nbedrock_regions = ["us-east-1"]',
            r"bedrock was removed .*: write \[bedrock\] .* as model; .*: write \[bedrock\] .* as regions",
        ),
        (
            GOOD + '[[reach]]\nname = "orders"\nport = 443\nconnector = "a.toml"',
            r"line 7: reach\.0\.connector was removed .*: write connector below \[reach\.live\]",
        ),
        (
            GOOD + "[embedding]\ncosine_related = 0.12",
            r"line 4: embedding: .*cosine_related = 0.12 is not more than 0.05 over cosine_unrelated = 0.07",
        ),
        (
            GOOD + '[prompt]\nanswer = "answer/2"',
            r"prompt was removed in 0\.3\.0: answers have one prompt.*\[answering\]",
        ),
        (GOOD + "[answers.escalation]\nclaim = 4100", r"answers\.escalation\.claim: .*string"),
        (GOOD + '[retrieval]\npassages = "many"', r"retrieval\.passages: .*got 'many'"),
        (GOOD.replace('"Clinic"', '""'), "display_name"),
        (GOOD.replace('"clinic"', '"Clinic One"'), "name"),
        (GOOD.replace("schema_version = 1", "schema_version = 2"), "schema_version"),
        (GOOD.replace('"clinic"', '"pharmacy"'), "must equal the file's name"),
        (GOOD + '[[red_flags]]\nname = "fire"\ntext = "Go."\ncall = "911"', "red_flags.0.examples is needed"),
        (GOOD + 2 * FLAG, 'two red_flags have the name "fire"'),
        (GOOD + FLAG.replace('"fire"', '"Fire!"'), r"red_flags\.0\.name: .*pattern"),
        (GOOD + FLAG.replace(', "e"', ""), r"red_flags\.0\.examples: .*at least 5"),
        (GOOD + FLAG + 'keywords = ["smoke"]', r"unknown key red_flags\.0\.keywords; allowed here: call"),
        ('name = "clinic"', "schema_version.*display_name"),
        ("not toml", "not valid TOML"),
    ],
)
def test_a_wrong_tenant_file_is_named_with_its_key(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "clinic.toml"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=f"(?s){file}: .*{says}"):
        load_tenant(file)


def test_answers_are_quoted_or_written_as_the_model_is_trusted_unless_the_file_says_otherwise(
    tmp_path: Path,
) -> None:
    file = tmp_path / "clinic.toml"
    file.write_text(
        GOOD + '[answers.escalation]\ndefault = "The nurse, ext. 1"\n"lost card" = "Cards, ext. 2"\n'
    )

    tenant = load_tenant(file)

    assert (tenant.answers.mode, tenant.answers.max_words, tenant.answers.also_words) == ("auto", 160, 80)
    assert dict(tenant.answers.escalation) == {"default": "The nurse, ext. 1", "lost card": "Cards, ext. 2"}
    assert tenant.gate.model_cosine == 0.25


@pytest.mark.parametrize("name", ["pharmacy", "clinic", "sandbox"])
def test_what_shapes_an_answer_is_part_of_its_settings_hash(name: str) -> None:
    tenant = load_tenant(Path(__file__).parents[2] / "tests/tenants" / f"{name}.toml")
    quoted = tenant.model_copy(update={"answers": tenant.answers.model_copy(update={"mode": "quoted"})})

    assert quoted.settings_hash() != tenant.settings_hash()


def test_kept_vectors_are_not_part_of_the_settings_hash_and_the_model_is() -> None:
    tenant = load_tenant(Path(__file__).parents[2] / "tests/tenants/shop.toml")

    def changed(**embedding: str | None) -> str:
        section = tenant.embedding.model_copy(update=embedding)
        return tenant.model_copy(update={"embedding": section}).settings_hash()

    assert tenant.embedding.vectors is not None
    assert changed(vectors=None) == tenant.settings_hash()
    assert changed(model="another") != tenant.settings_hash()


def test_each_tenant_file_is_read_alone(tmp_path: Path) -> None:
    (tmp_path / "clinic.toml").write_text(GOOD)
    (tmp_path / "typo.toml").write_text(GOOD.replace('"clinic"', '"typo"') + "colour = 1")
    (tmp_path / "latin.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "deep.toml").write_text(f"a = {'[' * 50_000}")
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "gone.toml").symlink_to(tmp_path / "nowhere")

    files = load_tenants(tmp_path)

    assert set(files.tenants) == {"clinic"}
    said = {name: error.message for name, error in files.refused.items()}
    assert said.keys() == {"typo", "latin", "deep", "folder", "pipe", "gone"}
    assert "line 4: unknown key colour" in said["typo"]
    assert "regular file" in said["pipe"]
    assert all(f"{name}.toml: " in message for name, message in said.items())
    with pytest.raises(ConfigurationError, match="unknown key colour"):
        files.one("typo")
    with pytest.raises(ConfigurationError, match=r"no tenant typ in .*; there are clinic, deep,"):
        files.one("typ")


@pytest.mark.parametrize("folder", ["absent", "."], ids=["no folder", "no file in it"])
def test_a_folder_without_tenants_is_named(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no such folder|no tenant file"):
        load_tenants(tmp_path / folder)


def test_what_one_process_gives_another_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    given = WorkerSettings(region="eu-1", only_tenants=("a", "b"), state_dir=Path("/s"))
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    assert WorkerSettings.read() == given


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANT_LOCAL_PORT", "high")
    with pytest.raises(ConfigurationError, match="ASSISTANT_LOCAL_PORT"):
        LocalSettings.read()


def test_a_variable_of_an_earlier_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANT_MODEL_MODE", "throughput")

    with pytest.raises(ConfigurationError, match=r"ASSISTANT_MODEL_MODE was removed in 0\.3\.0: unset it"):
        ModelServerSettings.read(task="generation")


def test_a_list_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANT_WORKER_ONLY_TENANTS", "a")
    with pytest.raises(ConfigurationError, match="only_tenants"):
        WorkerSettings.read()


ON_AWS = (
    "DOCUMENTS_BUCKET",
    "STATES_TABLE",
    "INGESTION_QUEUE_URL",
    "WITHDRAWALS_QUEUE_URL",
    "RECORDS_TABLE",
    "EVENTS_TABLE",
)


def test_one_error_names_every_variable_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANT_SERVICE_STORES", "aws")
    monkeypatch.setenv("ASSISTANT_SERVICE_SEARCH", "opensearch")
    with pytest.raises(ConfigurationError) as raised:
        ServiceSettings.read()
    named = ["ISSUER", *ON_AWS, "OPENSEARCH_URL", "JWKS_URL", "JWKS_PARAMETER"]
    assert [name for name in named if f"ASSISTANT_SERVICE_{name}" not in raised.value.message] == []


def test_the_worker_needs_no_table_of_answers() -> None:
    with pytest.raises(ConfigurationError) as raised:
        WorkerSettings.read(stores="aws")
    assert "ASSISTANT_WORKER_STATES_TABLE" in raised.value.message
    assert "RECORDS_TABLE" not in raised.value.message


@pytest.mark.parametrize(
    "given", [{}, {"jwks_url": "http://issuer/jwks.json", "jwks_parameter": "/keys"}], ids=["none", "both"]
)
def test_keys_come_from_exactly_one_place(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="exactly one of ASSISTANT_SERVICE_JWKS_URL"):
        ServiceSettings.read(issuer="http://issuer", **given)


def test_an_empty_variable_is_an_absent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANT_SERVICE_JWKS_PARAMETER", "")
    settings = ServiceSettings.read(issuer="http://issuer", jwks_url="http://issuer/jwks.json")
    assert settings.jwks_parameter is None


@pytest.mark.parametrize("url", ["opensearch:9200", "ftp://node", "http://", "http:// node"])
def test_an_address_that_is_no_url_is_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="ASSISTANT_WORKER_OPENSEARCH_URL"):
        WorkerSettings.read(search="opensearch", opensearch_url=url)


def tenants(*names: str) -> dict[str, TenantConfig]:
    return {name: TenantConfig(schema_version=1, name=name, display_name=name) for name in names}


def worker_on_aws(**changes: str) -> WorkerSettings:
    each = {name.lower(): f"https://queue/{{tenant}}/{name.lower()}" for name in ON_AWS[:4]}
    return WorkerSettings.read(**({"stores": "aws"} | each | changes))


def test_two_tenants_never_share_a_thing_of_aws() -> None:
    settings = worker_on_aws(states_table="states", search="opensearch", opensearch_url="http://node:9200")
    settings = settings.model_copy(update={"opensearch_index": "passages"})
    with pytest.raises(ConfigurationError) as raised:
        settings.check_tenants(tenants("clinic", "pharmacy"))
    said = raised.value.message
    assert said.endswith("ASSISTANT_WORKER_STATES_TABLE, ASSISTANT_WORKER_OPENSEARCH_INDEX.")


def test_one_tenant_alone_may_have_plain_names() -> None:
    worker_on_aws(states_table="states").check_tenants(tenants("clinic"))


def test_a_name_becomes_the_tenants_own() -> None:
    settings, clinic = worker_on_aws(), tenants("clinic")["clinic"]
    assert settings.of_tenant(settings.states_table, clinic) == "https://queue/clinic/states_table"
