"""Which local processes there are, by the models that tenants use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson

from assistant.local.layout import Layout
from assistant.settings.local_models import AddedEmbedding, AddedLlm, ServedLlm, TenantModels
from assistant.settings.model_artifacts import WRITER
from assistant.settings.process import LocalSettings
from assistant.settings.tenant import TenantConfig, load_tenant

EMBEDDING = AddedEmbedding(
    name="mine", path=Path("/weights/mine"), sha256="a" * 64, dimensions=768, max_tokens=512, pooling="cls"
)
LLM = AddedLlm(
    name="good", path=Path("/weights/good.gguf"), sha256="b" * 64, context_tokens=4096, answering=WRITER
)
ROOT = Path(__file__).parents[3]
ALWAYS = ("gateway", "issuer", "worker", "service")


def layout_of(folder: Path, models: Mapping[str, TenantModels]) -> Layout:
    """Two tenants whose files have the same endpoints."""
    tenants = {
        name: TenantConfig(schema_version=1, name=name, display_name=name) for name in ("shop", "branch")
    }
    for name in tenants:
        (folder / f"{name}.toml").write_text("")
    for model in (EMBEDDING, LLM):
        (folder / "models" / model.name).mkdir(parents=True)
        (folder / "models" / model.name / "manifest.toml").write_text(model.as_toml())
    served = {name: models.get(name, TenantModels()).applied_to(one) for name, one in tenants.items()}
    return Layout(folder, folder, served, LocalSettings(), models)


def environment(layout: Layout, process: str) -> dict[str, str]:
    return layout.plans(ports_of(layout))[process].environment


def ports_of(layout: Layout) -> dict[str, int]:
    return {name: 20_000 + number for number, name in enumerate(layout.everything)}


def test_a_model_that_may_not_write_is_not_started(tmp_path: Path) -> None:
    layout = layout_of(tmp_path, {})

    assert layout.everything == ("embedding", *ALWAYS)
    service = environment(layout, "service")
    assert orjson.loads(service["ASSISTANT_SERVICE_QUOTED_TENANTS"]) == ["shop", "branch"]
    assert set(orjson.loads(environment(layout, "gateway")["ASSISTANT_GATEWAY_ENDPOINTS"])) == {"embedding"}


def test_one_tenant_s_writer_is_started_for_it_alone(tmp_path: Path) -> None:
    layout = layout_of(tmp_path, {"shop": TenantModels(generation=LLM)})

    assert layout.everything == ("embedding", "llm-good", *ALWAYS)
    assert orjson.loads(environment(layout, "service")["ASSISTANT_SERVICE_QUOTED_TENANTS"]) == ["branch"]
    server = environment(layout, "llm-good")
    assert server["ASSISTANT_MODEL_MANIFEST"].endswith("models/good/manifest.toml")
    assert server["ASSISTANT_MODEL_CONTEXT_TOKENS"] == "4096"


def test_a_model_elsewhere_has_no_process_and_only_the_service_calls_it(tmp_path: Path) -> None:
    model = ServedLlm(
        name="tall",
        model="tall",
        url="http://127.0.0.1:11434/v1",
        key_file=tmp_path / "key",
        context_tokens=4096,
        answering=WRITER,
    )
    (tmp_path / "key").write_text("sk-secret")
    layout = layout_of(tmp_path, {"shop": TenantModels(generation=model)})

    assert layout.everything == ("embedding", *ALWAYS)
    models = orjson.loads(environment(layout, "service")["ASSISTANT_SERVICE_LOCAL_MODELS"])
    assert models["shop"]["generation"]["url"] == model.url
    assert orjson.loads(environment(layout, "service")["ASSISTANT_SERVICE_QUOTED_TENANTS"]) == ["branch"]
    assert not any("sk-secret" in str(plan) for plan in layout.plans(ports_of(layout)).values())


def test_a_model_elsewhere_that_may_not_write_is_never_called(tmp_path: Path) -> None:
    model = ServedLlm(name="tall", model="tall", url="http://127.0.0.1:11434/v1", context_tokens=4096)
    layout = layout_of(tmp_path, {"shop": TenantModels(generation=model)})

    quoted = orjson.loads(environment(layout, "service")["ASSISTANT_SERVICE_QUOTED_TENANTS"])
    assert set(quoted) == {"branch", "shop"}


def test_each_embedding_model_in_use_has_a_server_and_an_endpoint(tmp_path: Path) -> None:
    layout = layout_of(tmp_path, {"shop": TenantModels(embedding=EMBEDDING)})

    assert layout.for_search == ("embedding-mine", "embedding", "gateway")
    assert layout.for_loading == (*layout.for_search, "worker")
    endpoints = orjson.loads(environment(layout, "gateway")["ASSISTANT_GATEWAY_ENDPOINTS"])
    assert len(set(endpoints.values())) == 2
    told = orjson.loads(environment(layout, "worker")["ASSISTANT_WORKER_LOCAL_MODELS"])
    assert told["shop"]["embedding"]["name"] == "mine"


def test_a_changed_manifest_restarts_the_server_of_its_model(tmp_path: Path) -> None:
    layout = layout_of(tmp_path, {"shop": TenantModels(generation=LLM)})
    ports = ports_of(layout)
    before = {name: plan.settings() for name, plan in layout.plans(ports).items()}

    manifest = tmp_path / "models" / LLM.name / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("history_turns = 2", "history_turns = 3"))

    after = {name: plan.settings() for name, plan in layout.plans(ports).items()}
    assert [name for name in before if before[name] != after[name]] == ["llm-good"]


# Sample systems of a checkout.


def pharmacy(folder: Path, *, settings: LocalSettings | None = None, checkout: Path | None = ROOT) -> Layout:
    """One tenant whose connector file is the checkout's."""
    (folder / "pharmacy.toml").write_text(
        'schema_version = 1\nname = "pharmacy"\ndisplay_name = "Pharmacy"\n'
        '[care_context]\nissuer = "https://care.example"\n'
        '[[reach]]\nname = "orders"\nport = 443\nauth = "token"\n'
        f'connector = "{ROOT / "tests/tenants/connectors" / "orders.toml"}"\n'
    )
    tenants = {"pharmacy": load_tenant(folder / "pharmacy.toml")}
    return Layout(folder, folder / "state", tenants, settings or LocalSettings(), checkout=checkout)


def reach_addresses(layout: Layout) -> dict[str, str]:
    return orjson.loads(environment(layout, "service").get("ASSISTANT_SERVICE_REACH_ADDRESSES", "{}"))


def test_a_checkout_runs_the_sample_system_of_its_connector_file(tmp_path: Path) -> None:
    layout = pharmacy(tmp_path)

    assert layout.everything == ("embedding", "orders", *ALWAYS)
    plan = layout.plans(ports_of(layout))["orders"]
    assert plan.arguments[1:5] == ("-P", "-m", "tools.systems", "orders")
    assert plan.environment["PYTHONPATH"] == str(ROOT)
    token = tmp_path / "state" / "secrets" / "pharmacy" / "reach-orders"
    assert plan.environment["SYSTEM_TOKEN_FILES"] == str(token)
    assert reach_addresses(layout) == {"pharmacy/orders": f"http://127.0.0.1:{plan.port}"}
    assert "orders" in layout.plans(ports_of(layout))["service"].after


def test_an_installed_package_has_no_sample_systems(tmp_path: Path) -> None:
    layout = pharmacy(tmp_path, checkout=None)

    assert layout.everything == ("embedding", *ALWAYS)
    assert reach_addresses(layout) == {}


def test_a_system_with_an_address_of_its_own_gets_no_sample(tmp_path: Path) -> None:
    given = {"orders": "http://127.0.0.1:9100"}
    layout = pharmacy(tmp_path, settings=LocalSettings(reach_addresses=given))

    assert layout.everything == ("embedding", *ALWAYS)
    assert reach_addresses(layout) == given


def test_a_model_beside_has_a_server_and_an_endpoint_that_the_gateway_reads_from_a_file(
    tmp_path: Path,
) -> None:
    layout = layout_of(tmp_path, {"shop": TenantModels(beside=EMBEDDING)})

    assert layout.for_search == ("embedding", "embedding-mine", "gateway")
    assert layout.together == {"embedding", "embedding-mine"}
    ports = ports_of(layout)
    assert layout.beside_endpoints(ports) == {
        EMBEDDING.endpoint: f"http://127.0.0.1:{ports['embedding-mine']}"
    }


def test_a_model_beside_restarts_no_process_that_runs(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    plans: list[dict[str, str]] = []
    for folder, models in (
        (before, {"shop": TenantModels()}),
        (after, {"shop": TenantModels(beside=EMBEDDING)}),
    ):
        folder.mkdir()
        layout = layout_of(folder, models)
        ports: dict[str, int] = dict.fromkeys((*ALWAYS, "embedding", "embedding-mine"), 1)
        found = layout.plans(ports)
        plans.append({name: repr(found[name].environment).replace(str(folder), "") for name in ALWAYS})
    assert plans[0] == plans[1]


def test_a_packaged_model_beside_an_added_one_has_its_server_too(tmp_path: Path) -> None:
    layout = layout_of(tmp_path, {name: TenantModels(embedding=EMBEDDING) for name in ("shop", "branch")})
    assert layout.for_search == ("embedding-mine", "gateway")
    models = TenantModels(embedding=EMBEDDING, beside="packaged")
    (tmp_path / "again").mkdir()
    layout = layout_of(tmp_path / "again", {"shop": models, "branch": TenantModels(embedding=EMBEDDING)})
    assert layout.for_search == ("embedding-mine", "embedding", "gateway")
