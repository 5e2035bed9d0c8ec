"""``assistant tenant new`` and ``tenant check``: what they write, what they refuse, and where they say it."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from assistant.cli.tenant import check_tenant, write_tenant
from assistant.domain.errors import AssistantError, ConfigurationError
from assistant.tenant.deployment_checks import placeholders
from assistant.tenant.tenant import load_tenants
from assistant.tenant.toml_file import with_values, without
from assistant.terminal.terminal import GlobalOptions

ROOT = Path(__file__).parents[3]
SOURCES = ["pharmacy", "clinic", "sandbox"]


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GlobalOptions:
    """A clone's tenant files and a folder of notes, in the working folder."""
    shutil.copytree(ROOT / "tests/tenants", tmp_path / "tenants")
    (tmp_path / "my-notes").mkdir()
    monkeypatch.chdir(tmp_path)
    return GlobalOptions(tenants_dir=Path("tenants"), state_dir=Path(".state"), port=None, json=False)


def new(options: GlobalOptions, name: str = "mine", source: str = "pharmacy", **given: object) -> str:
    write_tenant(options, name, copied=source, **given)  # type: ignore[arg-type]
    return (options.tenants_dir / f"{name}.toml").read_text(encoding="utf-8")


def real(text: str) -> str:
    """Put into the pharmacy's file what a company would."""
    text = text.replace("111122223333", "210987654321").replace("example.com", "northshop.net")
    text = text.replace("00000000-0000-4000-8000-000000000000", "8d7a6c5b-1f2e-4d3c-9b8a-7c6d5e4f3a2b")
    return text.replace("vpce-svc-0123456789abcdef0", "vpce-svc-0a1b9c8d7e6f5a4b3")


@pytest.mark.parametrize("source", SOURCES)
def test_the_copy_loads_and_differs_where_tenants_must(options: GlobalOptions, source: str) -> None:
    new(options, source=source, knowledge=Path("my-notes"))

    files = load_tenants(options.tenants_dir)
    tenant, copied = files.one("mine"), files.one(source)
    assert tenant.sources[0].paths == ("../my-notes",)
    assert tenant.embedding.endpoint == "mine-embedding"
    assert tenant.has_llm_endpoint == (source != "sandbox")
    assert tenant.generation.endpoint == ("mine-llm" if tenant.has_llm_endpoint else "llm")
    assert tenant.display_name == "Mine"
    assert tenant.deployment is not None
    assert tenant.glossary == {}
    assert tenant.gate == copied.gate
    ranges = [each.network.cidr for each in files.tenants.values() if each.deployment is not None]
    assert len(ranges) > 1
    assert len(set(ranges)) == len(ranges)


def test_nothing_of_another_tenant_s_place_is_copied(options: GlobalOptions) -> None:
    path = options.tenants_dir / "pharmacy.toml"
    path.write_text(
        real(path.read_text()).replace(
            'cidr = "10.64.0.0/20"',
            'cidr = "10.64.0.0/20"  # agreed with the network team\n'
            '[network.endpoints]\nkms = "vpce-0a1b2c3d4e5f60718"',
        )
    )
    text = new(options)

    for value in ("210987654321", "northshop", "8d7a6c5b", "0a1b9c8d7e6f5a4b3", "0a1b2c3d4e5f60718"):
        assert value not in text
    assert "# agreed with the network team" in text
    found = {each.key for each in placeholders(load_tenants(options.tenants_dir).one("mine"))}
    assert found == {
        "deployment.account",
        "deployment.artifact_publishers.0",
        "deployment.pushers.procedures.0",
        "identity.issuer",
        "network.endpoints.kms",
        "edge.host_name",
        "edge.certificate_arn",
        "edge.allowed_principals.0",
        "reach.0.service_name",
        "care_context.issuer",
    }


def test_keys_that_the_source_leaves_to_their_defaults_are_added(options: GlobalOptions) -> None:
    (options.tenants_dir / "shop.toml").write_text(
        'schema_version = 1\nname = "shop"\ndisplay_name = "Shop" # the old one\n\n'
        "[gate]\nmodel_cosine = 0.5\n"
    )
    text = new(options, "corner", "shop")

    assert tomllib.loads(text) == {
        "schema_version": 1,
        "name": "corner",
        "display_name": "Corner",
        "gate": {"model_cosine": 0.5},
        "sources": [
            {"name": "knowledge", "namespace": "", "access": "everyone", "paths": ["../knowledge/corner"]}
        ],
        "embedding": {"endpoint": "corner-embedding"},
        "generation": {"endpoint": "corner-llm"},
    }
    assert "# the old one" in text


def test_no_source_reads_another_tenant_s_folder_or_another_source_s(options: GlobalOptions) -> None:
    (options.tenants_dir / "shop.toml").write_text(
        'schema_version = 1\nname = "shop"\ndisplay_name = "Shop"\n'
        '[[sources]]\nname = "notes"\nnamespace = ""\naccess = "everyone"\npaths = ["../notes"]\n'
        '[[sources]]\nname = "wiki"\naccess = "everyone"\npaths = ["../wiki", "../more"]\n'
        '[[sources]]\nname = "feed"\naccess = "everyone"\n'
    )
    new(options, "corner", "shop")
    copied = load_tenants(options.tenants_dir).one("corner").sources
    assert {each.name: each.paths for each in copied} == {
        "notes": ("../knowledge/corner/notes",),
        "wiki": ("../knowledge/corner/wiki",),
        "feed": (),
    }


def sources_of(options: GlobalOptions, name: str = "mine") -> dict[str, tuple[str, ...]]:
    return {each.name: each.paths for each in load_tenants(options.tenants_dir).one(name).sources}


def test_each_source_of_a_shop_reads_what_has_its_name_and_the_others_are_left_out(
    options: GlobalOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("catalogue.jsonl", "reviews/2026.jsonl", "community.md", "prices.csv", ".hidden.md"):
        (Path("my-notes") / name).parent.mkdir(exist_ok=True)
        (Path("my-notes") / name).write_text("")
    text = new(options, source="shop", knowledge=Path("my-notes"))

    assert sources_of(options) == {
        "catalogue": ("../my-notes/catalogue.jsonl",),
        "reviews": ("../my-notes/reviews",),
        "community": ("../my-notes/community.md",),
        "stores": (),
    }
    assert "freshness_days = 720  # an opinion of two years ago counts half" in text
    assert "left out, because nothing in my-notes has its name: help\n" in capsys.readouterr().err


def test_the_words_and_vectors_of_another_business_are_not_copied(
    options: GlobalOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    text = new(options, source="shop")
    tenant = load_tenants(options.tenants_dir).one("mine")
    assert (tenant.glossary, tenant.embedding.vectors) == ({}, None)
    assert "air purifier" not in text
    said = capsys.readouterr().err
    assert "the glossary is not copied" in said
    assert "embedding.vectors is not copied" in said


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("clinic", {}, r"tenants/clinic\.toml exists already"),
        ("Mine", {}, r'"Mine" is not a tenant name'),
        ("a", {}, r'"a" is not a tenant name'),
        ("../mine", {}, r"is not a tenant name"),
        ("shop-care", {}, r'"shop-care" ends in "-care"'),
        ("shop-", {}, r'"shop-" ends in "-"'),
        ("pharmacy-2", {}, r'pharmacy\.toml and pharmacy-2\.toml .* covers "assistant-pharmacy-2"'),
        ("mine", {"source": "pharm"}, r"There is no tenant pharm in tenants; there are clinic, pharmacy"),
        ("mine", {"knowledge": Path("nowhere")}, r"no such file or folder: nowhere"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    options: GlobalOptions, name: str, given: dict[str, object], said: str
) -> None:
    before = sorted(options.tenants_dir.iterdir())

    with pytest.raises(AssistantError, match=said):
        new(options, name, **given)  # type: ignore[arg-type]
    assert sorted(options.tenants_dir.iterdir()) == before


def test_endpoints_of_another_tenant_are_named_with_their_file(options: GlobalOptions) -> None:
    path = options.tenants_dir / "sandbox.toml"
    path.write_text(path.read_text().replace('"sandbox-embedding"', '"mine-embedding"'))

    with pytest.raises(AssistantError, match=r'sandbox\.toml has the endpoint "mine-embedding" already'):
        new(options)


@pytest.mark.parametrize("name", SOURCES)
def test_every_made_up_value_is_named_with_file_line_and_key(options: GlobalOptions, name: str) -> None:
    lines = (options.tenants_dir / f"{name}.toml").read_text().splitlines()

    with pytest.raises(ConfigurationError) as refused:
        check_tenant(options, name)
    said = refused.value.message.splitlines()
    for line in said:
        found = re.match(
            rf"tenants/{name}\.toml: line (\d+): ([a-z_.0-9]+): \"(.+?)\" is a placeholder", line
        )
        assert found, line
        assert found[3] in lines[int(found[1]) - 1]
    keys = {re.sub(r"\.\d+", "", line.split(": ")[2]) for line in said}
    assert keys >= {"deployment.account", "edge.certificate_arn", "edge.host_name", "identity.issuer"}
    assert ("reach.service_name" in keys) == (name in ("pharmacy", "sandbox"))


def test_a_file_with_a_company_s_own_values_passes(
    options: GlobalOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    path = options.tenants_dir / "pharmacy.toml"
    path.write_text(real(path.read_text()))
    check_tenant(options, "pharmacy")
    assert "ready to be deployed" in capsys.readouterr().out


def test_a_warning_names_folders_that_restrict_more_than_all_others(
    options: GlobalOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folders = options.tenants_dir / "pharmacy.toml", 'access = "folder"\nfolders = {'
    text = real(path.read_text())
    for rest, warns in (('"" = []', True), ('"" = ["hr"]', False), ("b = []", False)):
        path.write_text(text.replace('access = "everyone"', f'{folders} pay = ["hr"], {rest} }}', 1))
        check_tenant(options, "pharmacy")
        assert ('"" lets more agents read than "pay" does' in capsys.readouterr().err) == warns


@pytest.mark.parametrize("deployed", [False, True])
def test_only_a_deployment_needs_the_care_application_s_real_address(
    options: GlobalOptions, deployed: bool
) -> None:
    name = "pharmacy" if deployed else "shop"
    path = options.tenants_dir / f"{name}.toml"
    signed = '[care_context]\nissuer = "https://care.northshop.example"\n'
    text = re.sub(r"\[care_context\]\n.*\nissuer = .*\n", "", real(path.read_text()))
    path.write_text(f"{text}\n{signed}")
    found = [each.key for each in placeholders(load_tenants(options.tenants_dir).one(name))]
    assert found == (["care_context.issuer"] if deployed else [])


def test_placeholders_of_the_care_side_are_named_where_it_is_asked_for(options: GlobalOptions) -> None:
    shutil.copytree(ROOT / "tests/care_app", "care_app")
    path = options.tenants_dir / "pharmacy.toml"
    path.write_text(real(path.read_text()))
    check_tenant(options, "pharmacy")  # the care side is filled in after the first deployment
    with pytest.raises(ConfigurationError, match=r"care_app/pharmacy\.toml: line \d+: link\.service_name"):
        check_tenant(options, "pharmacy", care=True)


@pytest.mark.parametrize(
    "value",
    ["login.northshop.net", "examples.northshop.net", "123456789013", "10.0.0.0/8", "my-example-role"],
)
def test_real_values_are_no_placeholders(options: GlobalOptions, value: str) -> None:
    path = options.tenants_dir / "pharmacy.toml"
    path.write_text(real(path.read_text()).replace("pharmacy-care", value.replace("/", "_")))
    assert list(placeholders(load_tenants(options.tenants_dir).one("pharmacy"))) == []


SETTINGS = """\
# the top
[[list]]
name = "one"
[list.inner]
key = 1
# over two
[[list]]  # two
name = [
  "a",  # first
]
kept = 2

[table]  # gone
# inside
"a" = "b"
"""


@pytest.mark.parametrize(
    ("places", "gone"),
    [
        ([("table",)], '[table]  # gone\n# inside\n"a" = "b"\n'),
        ([("list", 0)], '[[list]]\nname = "one"\n[list.inner]\nkey = 1\n'),
        ([("list", 1, "name")], 'name = [\n  "a",  # first\n]\n'),
        ([("nothing",), ("list", 5)], ""),
    ],
)
def test_a_table_or_key_is_removed_and_nothing_else(places: list[tuple[str | int, ...]], gone: str) -> None:
    assert without(SETTINGS, places).rstrip() == SETTINGS.replace(gone, "").rstrip()


def test_a_key_of_an_inline_table_is_changed_and_removed() -> None:
    text = 'embedding = { vectors = "a", endpoint = "b" }  # kept\n'
    text = with_values(text, {("embedding", "endpoint"): "c"})
    text = without(text, [("embedding", "vectors")])
    assert tomllib.loads(text) == {"embedding": {"endpoint": "c"}}
    assert text.endswith("# kept\n")


@pytest.mark.parametrize("source", SOURCES)
def test_all_comments_and_the_order_of_keys_are_kept(options: GlobalOptions, source: str) -> None:
    before = (options.tenants_dir / f"{source}.toml").read_text().partition("\n[glossary]")[0]
    before = re.sub(r"^examples = .*?^\]\n", "", before, count=1, flags=re.DOTALL | re.MULTILINE)
    after = new(options, source=source)

    assert re.findall(r"#.*", after) == re.findall(r"#.*", before)
    assert [line.split("=")[0] for line in after.splitlines()] == [
        line.split("=")[0] for line in before.splitlines()
    ]


def test_another_tenant_s_typo_is_in_nobody_s_way(options: GlobalOptions) -> None:
    (options.tenants_dir / "typo.toml").write_text("name =")
    assert new(options)
    with pytest.raises(AssistantError, match=r"typo\.toml exists already"):
        new(options, "typo")
    with pytest.raises(ConfigurationError, match=r"typo\.toml: not valid TOML"):
        new(options, "other", source="typo")
