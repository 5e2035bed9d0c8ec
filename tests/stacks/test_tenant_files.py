"""Tenant files as a deployment reads them: values from artifacts and profile, and refused files."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.options.desk.section import DeskSection
from assistant.options.live.section import systems_of
from assistant.tenant.deployment_checks import contradictions
from assistant.tenant.tenant import load_tenant
from stacks.processes import effective_tenant_file
from stacks.tenant import ROOT, DeployedTenant, read_tenants
from tests.options.live.live_scene import of_page, write_connector
from tests.stacks.values import deployed, with_second_embedding, with_sections
from tests.stage.tenant_files import committed_tenant

IMAGES = ROOT / "images.lock.toml"


def read(folder: Path, only: str | None = None) -> list[DeployedTenant]:
    return read_tenants(folder=folder, only=only, images=IMAGES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the pharmacy's file alone."""
    (tmp_path / "pharmacy.toml").write_text(committed_tenant("pharmacy"))
    return tmp_path


def edit(folder: Path, before: str, after: str) -> None:
    path = folder / "pharmacy.toml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


@pytest.mark.parametrize(
    ("name", "model", "context", "copies"),
    [
        ("pharmacy", "Qwen3-8B", 8192, 2),
        ("clinic", "Qwen3-8B", 8192, 1),
        ("sandbox", "amazon.nova-lite-v1:0", 16384, 0),
    ],
)
def test_the_deployed_file_has_the_model_s_context_and_the_index_s_copies(
    name: str, model: str, context: int, copies: int
) -> None:
    config = deployed(name).config

    assert (config.generation.model, config.generation.context_tokens) == (model, context)
    assert (config.embedding.model, config.embedding.dimensions) == ("all-MiniLM-L6-v2", 384)
    assert config.index.replicas == copies
    assert config.secrets.document_links == f"kms:/assistant/{name}/document-links"
    served = tomllib.loads(effective_tenant_file(deployed(name)))
    assert served["live"]["pseudonyms"] == f"kms:/assistant/{name}/live-read-pseudonyms"
    assert served["desk"]["feedback"]["pseudonyms"] == f"kms:/assistant/{name}/feedback-pseudonyms"


@pytest.mark.parametrize(("name", "days"), [("pharmacy", 30), ("sandbox", 1)])
def test_the_deployed_file_keeps_live_values_as_its_profile_does(name: str, days: int) -> None:
    """The container's file has no profile."""
    config = deployed(name).config
    assert config.records.live_values_days == config.live_values_days == days


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('profile = "hipaa"', 'profile = "hippa"', r"deployment\.profile: .*'dev', 'standard' or 'hipaa'"),
        ('"us-east-1b", "us-east-1c"]', '"us-east-1b"]', r"deployment\.zones: 2 zones; .* takes 3"),
        ('"us-east-1c"]', '"us-west-2c"]', r"deployment\.zones: us-west-2c is not in us-east-1"),
        ('"us-east-1b", "us-east-1c"]', '"us-east-1b", "us-east-1b"]', r"deployment\.zones: .* a duplicate"),
        (
            'cidr = "10.64.0.0/20"',
            'vpc = { vpc_id = "vpc-0aaaaaaaaaaaaaaaa", cidr = "10.9.0.0/16", '
            'subnet_ids = ["subnet-0a", "subnet-0b"], route_table_ids = ["rtb-0aaaaaaaaaaaaaaaa"] }',
            r"network\.vpc\.subnet_ids: 2 subnets for 3 zones",
        ),
        ('accelerator = "inf2"', 'accelerator = "gpu"', r'models\.llm: "qwen3-8b-inf2" is made for inf2'),
        (
            'accelerator = "inf2"',
            'accelerator = "inf2"\ncapture = "direct"',
            r'models\.capture: "direct" keeps .* "quarantine" and "off"',
        ),
        (
            'accelerator = "inf2"',
            'accelerator = "inf2"\nllm_instance = "ml.inf2.xlarge"',
            r"models: qwen3-8b-inf2 does not load in the 16 GiB of host memory",
        ),
        (
            'endpoint = "pharmacy-embedding"',
            'endpoint = "pharmacy-embedding"\ndimensions = 768',
            r"embedding\.dimensions: 768, and vectors of all-minilm-l6-v2-cpu have 384",
        ),
        (
            'endpoint = "pharmacy-llm"',
            'endpoint = "pharmacy-embedding"',
            r'generation\.endpoint: "pharmacy-embedding" is the embedding endpoint too',
        ),
        (
            'endpoint = "pharmacy-embedding"',
            'endpoint = "pharmacy-embedding"\nvectors = "../knowledge/pharmacy/vectors.npz"',
            r"embedding\.vectors: .* Delete the line",
        ),
        ('access = "everyone"', 'access = "everyone"\nocr = true', r"sources\.0\.ocr: .* no scans"),
        (
            "[care_context]",
            '[[sources]]\nname = "wiki"\naccess = "everyone"\n'
            'connector = { kind = "mediawiki", api = "https://wiki.internal/api.php" }\n\n[care_context]',
            r"sources\.2\.connector\.reach: it names no way",
        ),
        ("acm:us-east-1:", "acm:eu-west-1:", r"edge\.certificate_arn: it is in region eu-west-1"),
        (
            "port = 443",
            "port = 443\ncolour = 1",
            r"unknown key reach\.0\.colour; allowed here: auth, ca_file",
        ),
        (
            'service_name = "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0"',
            "",
            r"reach\.0\.service_name: exactly one",
        ),
    ],
)
def test_an_invalid_file_is_refused_with_its_line(folder: Path, before: str, after: str, said: str) -> None:
    edit(folder, before, after)

    with pytest.raises(ConfigurationError, match=rf"pharmacy\.toml: line \d+: {said}"):
        read(folder, "pharmacy")


def test_a_region_without_the_image_is_refused_with_the_regions_that_have_it(folder: Path) -> None:
    path = folder / "pharmacy.toml"
    path.write_text(re.sub("us-east-1", "eu-north-1", path.read_text()))

    with pytest.raises(
        ConfigurationError, match=r"llm_neuronx .* is not published in eu-north-1; .*eu-west-1"
    ):
        read(folder, "pharmacy")


@pytest.mark.parametrize("wrong", ["a typo", "a contradiction", "a clash of two others"])
def test_an_invalid_file_is_named_and_other_tenants_are_read(
    folder: Path, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if wrong == "a typo":
        (folder / "other.toml").write_text("this is = no tenant = file")
    else:
        beside(folder, "other")
    if wrong == "a contradiction":
        text = (folder / "other.toml").read_text()
        (folder / "other.toml").write_text(text.replace('"us-east-1c"]', '"us-west-2c"]', 1))
    if wrong == "a clash of two others":
        beside(folder, "branch")

    assert [tenant.name for tenant in read(folder)] == ["pharmacy"]
    said = capsys.readouterr().err
    assert "other.toml" in said
    assert "no templates for " in said
    assert [tenant.name for tenant in read(folder, "pharmacy")] == ["pharmacy"]
    assert capsys.readouterr().err == ""


def test_two_tenants_of_one_account_share_no_endpoint(folder: Path) -> None:
    text = (folder / "pharmacy.toml").read_text()
    (folder / "branch.toml").write_text(text.replace('name = "pharmacy"', 'name = "branch"', 1))

    with pytest.raises(ConfigurationError, match=r"branch\.toml and pharmacy\.toml both have the endpoint"):
        read(folder)


def beside(folder: Path, name: str, **places: str) -> None:
    """Put a second tenant beside the pharmacy, in its account and region, with endpoints of its own."""
    text = (folder / "pharmacy.toml").read_text().replace('name = "pharmacy"', f'name = "{name}"', 1)
    text = re.sub(r'endpoint = "pharmacy-(\w+)"', r'endpoint = "other-\1"', text)
    for key, value in places.items():
        text = re.sub(rf"^{key} = .*\n", "", text, flags=re.MULTILINE)
        text = text.replace("[deployment]\n", f'[deployment]\n{key} = "{value}"\n', 1)
    (folder / f"{name}.toml").write_text(text)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("pharmacy-2", "assistant"), ("two", "assistant-pharmacy"), ("far", "assistant-pharmacy-b")],
)
def test_no_tenant_s_name_prefix_covers_another_tenant(folder: Path, name: str, prefix: str) -> None:
    beside(folder, name, name_prefix=prefix)

    with pytest.raises(
        ConfigurationError,
        match=rf'pharmacy\.toml and {name}\.toml .*"assistant-pharmacy-\*".*{prefix}-{name}".*make synth',
    ):
        read(folder)
    assert [tenant.name for tenant in read(folder, name)] == [name]


def test_tenant_names_that_give_the_same_resource_name_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside(folder, "north-shop", name_prefix="care")
    beside(folder, "shop", name_prefix="care-north")
    text = (folder / "shop.toml").read_text()
    (folder / "shop.toml").write_text(text.replace('"other-', '"third-'))

    assert [tenant.name for tenant in read(folder)] == ["pharmacy"]
    assert 'covers "care-north-shop"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("pharmacy2", {}),
        ("pharmac", {}),
        ("pharmacy-2", {"account": "444455556666"}),
        ("pharmacy-2", {"name_prefix": "helper"}),
    ],
)
def test_a_similar_but_distinct_name_is_accepted(folder: Path, name: str, places: dict[str, str]) -> None:
    beside(folder, name, **places)
    if "account" in places:
        path = folder / f"{name}.toml"
        path.write_text(path.read_text().replace("111122223333", places["account"]))

    assert {tenant.name for tenant in read(folder)} == {"pharmacy", name}


def with_connector(folder: Path) -> None:
    """Give the pharmacy the system and the connector of its page."""
    tenant, _, _ = of_page()
    write_connector(folder / "connectors")
    file = folder / "pharmacy.toml"
    before = re.sub(r"\[\[?reach[.\w]*\]\]?\n(.+\n)+", "", file.read_text())
    before = re.sub(r"\[care_context\]\n(.+\n)+", "", before)
    file.write_text(f"{before}\n{tenant}\n")


@pytest.mark.parametrize(("name", "expected"), [("pharmacy", True), ("clinic", False)])
def test_a_container_knows_whether_decisions_need_two_people(
    tmp_path: Path, name: str, expected: bool
) -> None:
    path = tmp_path / f"{name}.toml"
    path.write_text(effective_tenant_file(deployed(name)))
    assert load_tenant(path).needs_two_people is expected
    assert load_tenant(path).guard == ("reason" if expected else "seen")


def test_a_container_keeps_how_many_cases_of_an_agent_may_wait(folder: Path) -> None:
    edit(folder, "schema_version = 1\n", "schema_version = 1\ndesk.open_cases_per_agent = 7\n")
    (tenant,) = read(folder)
    served = folder / "container" / "pharmacy.toml"
    served.parent.mkdir()
    served.write_text(effective_tenant_file(tenant))
    assert DeskSection.of(load_tenant(served)).open_cases_per_agent == 7


def test_a_container_gets_the_connector_the_secret_and_the_parameter_of_the_keys(folder: Path) -> None:
    with_connector(folder)
    (tenant,) = read(folder)
    container = folder / "container"
    container.mkdir()
    (container / "pharmacy.toml").write_text(effective_tenant_file(tenant))
    served = load_tenant(container / "pharmacy.toml")
    (system,), (of_file,) = systems_of(served), systems_of(tenant.config)
    assert system.connector == of_file.connector.model_copy(update={"openapi": None})
    assert served.reach[0].secret_name == "secretsmanager:assistant/pharmacy/reach/orders"
    assert served.care_context is not None
    assert served.care_context.jwks_parameter == "/assistant/pharmacy/care-jwks"
    expected = tenant.config.model_copy(update={"secrets": served.secrets})
    assert served.settings_hash() == expected.settings_hash()
    assert "vpce" not in (container / "pharmacy.toml").read_text()


def test_personal_operations_need_a_care_application_that_signs(folder: Path) -> None:
    with_connector(folder)
    edit(folder, "[care_context]                     # who signs whose conversation it is\n", "")
    edit(folder, 'issuer = "https://care.pharmacy.example.com"\n', "")
    with pytest.raises(ConfigurationError, match=r"reach.0.live.whose: .*needs \[care_context\]"):
        read(folder, "pharmacy")


def test_the_service_is_told_whether_captured_words_are_kept(folder: Path) -> None:
    edit(folder, "[models]\n", '[models]\ncapture_texts = "redacted"\n')

    (tenant,) = read(folder, "pharmacy")
    assert tenant.config.records.deployed is not None
    assert tenant.config.records.deployed.capture_texts == "redacted"


def changed(name: str, section: str, **values: Any) -> DeployedTenant:
    """Return the tenant of a file with values of a section replaced."""
    data = json.loads(deployed(name).config.model_dump_json())
    return with_sections(deployed(name), **{section: data[section] | values})


def with_entry(**values: Any) -> DeployedTenant:
    """Return the pharmacy with one system, of which values are replaced."""
    live = {"connector": "connectors/orders.toml"}
    entry = {"name": "orders", "port": 443, "service_name": SERVICE, "live": live, "auth": "token"}
    return with_sections(deployed("pharmacy"), reach=[entry | values])


def with_second(endpoint: str, **models: Any) -> DeployedTenant:
    """Return the pharmacy with a second embedding model at an endpoint."""
    second = with_second_embedding("pharmacy")
    data = json.loads(second.config.model_dump_json())
    following = data["embedding_next"] | {"endpoint": endpoint}
    return with_sections(second, models=data["models"] | models, embedding_next=following)


SERVICE = "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0"
RESOURCE = "arn:aws:vpc-lattice:us-east-1:111122223333:resourceconfiguration/rcfg-0123456789abcdef0"
PUSHER = "arn:aws:iam::111122223333:role/x"
VAULT = "arn:aws:backup:{}:backup-vault:far"


@pytest.mark.parametrize(
    ("made", "key", "said"),
    [
        (
            lambda: changed(
                "pharmacy", "deployment", pushers={"orders": ["arn:aws:iam::111122223333:role/x"]}
            ),
            "deployment.pushers.orders",
            "",
        ),
        (
            lambda: changed("pharmacy", "deployment", recovery_copies=VAULT.format("us-east-1:111122223333")),
            "deployment.recovery_copies",
            "own account and region",
        ),
        (
            lambda: changed("clinic", "deployment", recovery_copies=VAULT.format("eu-west-1:666677778888")),
            "deployment.recovery_copies",
            "profile standard has no recovery points",
        ),
        (lambda: with_entry(caller="connectors"), "reach.0.caller", ""),
        (
            lambda: with_entry(service_name=None, resource_configuration_arn=RESOURCE),
            "reach.0.host_name",
            "",
        ),
        (lambda: with_entry(auth="sigv4"), "reach.0.invoke_arn", ""),
        (lambda: with_entry(secret="file:token"), "reach.0.secret", ""),
        (lambda: with_second("pharmacy-embedding-next", embedding_next=None), "", "Give both, or neither"),
        (lambda: with_second("pharmacy-embedding-2"), "", "exactly one of both names"),
    ],
)
def test_what_contradicts_itself_is_refused_with_its_key(
    made: Callable[[], DeployedTenant], key: str, said: str
) -> None:
    tenant = made()
    found = contradictions(tenant.config, place=tenant.place, edge=tenant.edge, models=tenant.models)
    assert [each for each in found if key in ("", each.key) and said in each.said]
