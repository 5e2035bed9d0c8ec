"""What a laptop serves, and with which settings, by the models and systems of its tenants."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from assistant.laptop.layout import ORIGINALS, SAMPLE_PUBLISHER, Addresses, Layout, SharedSite
from assistant.process.settings import LocalSettings, ServiceSettings
from assistant.tenant.added_models import AddedEmbedding, ServedLlm, TenantModels
from assistant.tenant.manifests import WRITER
from assistant.tenant.tenant import TenantConfig, load_tenant
from tests.stage.tenant_files import address

EMBEDDING = AddedEmbedding(
    name="mine", path=Path("/weights/mine"), sha256="a" * 64, dimensions=768, max_tokens=512, pooling="cls"
)
LLM = ServedLlm(name="tall", model="tall", url="http://127.0.0.1:1/v1", context_tokens=4096, answering=WRITER)
ROOT = Path(__file__).parents[3]
ADDRESSES = Addresses(
    service="http://127.0.0.1:8700", issuer="http://127.0.0.1:8701", systems={"orders": "http://127.0.0.1:9"}
)


def layout_of(
    folder: Path, models: Mapping[str, TenantModels], settings: LocalSettings | None = None
) -> Layout:
    """Two tenants whose files have the same endpoints."""
    tenants = {
        name: TenantConfig(schema_version=1, name=name, display_name=name) for name in ("shop", "branch")
    }
    for name in tenants:
        (folder / f"{name}.toml").write_text("")
    every = {name: models.get(name, TenantModels()) for name in tenants}
    served = {name: every[name].applied_to(one) for name, one in tenants.items()}
    return Layout(folder, folder, served, settings or LocalSettings(), every)


def service_of(layout: Layout) -> ServiceSettings:
    return layout.service_settings(ADDRESSES)


def test_a_model_that_may_not_write_is_never_asked(tmp_path: Path) -> None:
    tall = ServedLlm(name="tall", model="tall", url="http://127.0.0.1:11434/v1", context_tokens=4096)
    layout = layout_of(tmp_path, {"shop": TenantModels(generation=tall)})
    assert service_of(layout).quoted_tenants == ("shop", "branch")


def test_one_tenant_s_writer_writes_for_it_alone(tmp_path: Path) -> None:
    settings = service_of(layout_of(tmp_path, {"shop": TenantModels(generation=LLM)}))
    assert settings.quoted_tenants == ("branch",)
    assert settings.local_models["shop"].generation == LLM
    assert settings.models == "embedded"


def test_no_key_of_a_server_is_in_the_settings(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-secret")
    tall = ServedLlm(
        name="tall", model="tall", url="http://127.0.0.1:1/v1", key_file=tmp_path / "key", context_tokens=4096
    )
    layout = layout_of(tmp_path, {"shop": TenantModels(generation=tall)})
    assert "sk-secret" not in str(service_of(layout).environment())
    assert "sk-secret" not in str(layout.options())


def test_the_worker_embeds_with_the_model_of_each_tenant(tmp_path: Path) -> None:
    layout = layout_of(tmp_path, {"shop": TenantModels(embedding=EMBEDDING)})
    settings = layout.worker_settings()
    assert settings.local_models["shop"].embedding == EMBEDDING
    assert settings.local_models["branch"].embedding is None
    assert settings.models == "embedded"


# What asks for a new start.


def test_another_address_of_a_system_is_another_option(tmp_path: Path) -> None:
    other = layout_of(tmp_path, {}, LocalSettings(reach_addresses={"orders": "http://127.0.0.1:7"}))
    assert other.options() != layout_of(tmp_path, {}).options()


def test_a_changed_file_or_model_has_another_digest(tmp_path: Path) -> None:
    before = layout_of(tmp_path, {}).digest()
    assert layout_of(tmp_path, {}).digest() == before
    assert layout_of(tmp_path, {"shop": TenantModels(generation=LLM)}).digest() != before
    layout = layout_of(tmp_path, {})
    (tmp_path / "shop.toml").write_text("# changed")
    assert layout.digest() != before


def test_a_changed_connector_file_has_another_digest(tmp_path: Path) -> None:
    layout = pharmacy(tmp_path, connector=(own := tmp_path / "orders.toml"))
    before = layout.digest()
    own.write_text(own.read_text() + "# changed")
    assert layout.digest() != before


# Sample systems of a checkout.


def pharmacy(
    folder: Path,
    *,
    settings: LocalSettings | None = None,
    checkout: Path | None = ROOT,
    connector: Path = ROOT / "tests/tenants/connectors" / "orders.toml",
) -> Layout:
    """One tenant whose connector file is the checkout's."""
    if not connector.exists():
        source = ROOT / "tests/tenants/connectors"
        text = (source / "orders.toml").read_text().replace('"orders.openapi', f'"{source}/orders.openapi')
        connector.write_text(text)
    (folder / "pharmacy.toml").write_text(
        'schema_version = 1\nname = "pharmacy"\ndisplay_name = "Pharmacy"\n'
        '[care_context]\nissuer = "https://care.example"\n'
        '[[reach]]\nname = "orders"\nport = 443\nauth = "token"\n'
        f'live.connector = "{connector}"\n'
    )
    tenants = {"pharmacy": load_tenant(folder / "pharmacy.toml")}
    return Layout(folder, folder / "state", tenants, settings or LocalSettings(), checkout=checkout)


def test_a_checkout_serves_the_sample_system_of_its_connector_file(tmp_path: Path) -> None:
    layout = pharmacy(tmp_path)
    assert list(layout.sample_systems) == ["orders"]
    token = tmp_path / "state" / "secrets" / "pharmacy" / "reach-orders"
    assert layout.system_tokens("orders") == [token]
    assert service_of(layout).reach_addresses == {"pharmacy/orders": ADDRESSES.systems["orders"]}
    assert service_of(layout).originals == {SAMPLE_PUBLISHER: ADDRESSES.systems["orders"] + ORIGINALS}


def test_an_installed_package_has_no_sample_systems(tmp_path: Path) -> None:
    layout = pharmacy(tmp_path, checkout=None)
    assert layout.sample_systems == {}
    assert service_of(layout).reach_addresses == {}


def test_a_system_with_an_address_of_its_own_gets_no_sample(tmp_path: Path) -> None:
    given = {"orders": "http://127.0.0.1:9100"}
    layout = pharmacy(tmp_path, settings=LocalSettings(reach_addresses=given))
    assert layout.sample_systems == {}
    assert service_of(layout).reach_addresses == given


def test_each_file_that_a_start_may_read_is_followed_by_its_time(tmp_path: Path) -> None:
    layout = layout_of(tmp_path, {})
    (tmp_path / "connectors").mkdir()
    chosen = layout.models_dir / "choices.json"
    chosen.parent.mkdir()
    files = (tmp_path / "shop.toml", tmp_path / "new.toml", tmp_path / "connectors" / "orders.toml", chosen)
    for path in files:
        before = layout.times()
        path.write_text("# changed")
        assert layout.times() != before
    (tmp_path / "new.toml").unlink()
    assert tmp_path / "new.toml" not in layout.times()


# --- sharing ----------------------------------------------------------------------------------------------
SERVES = """
import os, signal, sys
from pathlib import Path
from assistant.laptop.layout import SharedSite
from tests.stage.tenant_files import address

shared = SharedSite(Path(sys.argv[1]))
assert shared.take()
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
shared.publish(address())
print("serving", flush=True)
input()
"""
Serve = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start another command that serves."""
    started: list[subprocess.Popen[str]] = []

    def start(kind: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SERVES, str(tmp_path), kind]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(other)
        assert other.stdout is not None
        assert other.stdout.readline() == "serving\n"
        return other

    yield start
    for each in started:
        each.kill()
        each.communicate()


@pytest.fixture
def shared(tmp_path: Path) -> SharedSite:
    return SharedSite(tmp_path)


def test_one_command_serves_and_the_others_find_where(shared: SharedSite, serve: Serve) -> None:
    other = serve("plain")
    assert not shared.take()
    found = shared.read()
    assert found is not None
    assert found.pid == other.pid
    assert shared.serves(found)


def test_a_killed_command_leaves_no_site_and_the_next_one_serves(shared: SharedSite, serve: Serve) -> None:
    other = serve("plain")
    found = shared.read()
    other.kill()
    other.communicate()
    assert found is not None
    assert shared.read() is None
    assert not shared.serves(found)
    assert shared.take()
    shared.release()


def test_a_command_that_starts_is_not_yet_found(shared: SharedSite, tmp_path: Path) -> None:
    assert shared.take()
    assert SharedSite(tmp_path).read() is None
    assert not SharedSite(tmp_path).take()
    shared.release()


def test_a_file_that_is_no_address_counts_as_none(shared: SharedSite, tmp_path: Path) -> None:
    assert shared.take()
    (tmp_path / "site.json").write_text('{"service": ')
    assert SharedSite(tmp_path).read() is None
    shared.release()


def test_who_serves_waits_for_those_who_use_it(shared: SharedSite, tmp_path: Path) -> None:
    assert shared.take()
    shared.publish(address())
    waiting, ended = threading.Event(), threading.Event()

    def end() -> None:
        shared.publish(address(service=""))
        shared.await_users(waiting.set)
        ended.set()

    ending = threading.Thread(target=end)
    with SharedSite(tmp_path).using(address()) as is_serving:
        assert is_serving
        assert shared.is_used()
        ending.start()
        assert waiting.wait(60)
        assert not ended.is_set()
    ending.join(60)
    assert ended.is_set()
    assert not shared.is_used()
    shared.release()


def test_nobody_begins_to_use_a_site_that_stops(shared: SharedSite, tmp_path: Path) -> None:
    assert shared.take()
    shared.publish(address(service=""))
    with SharedSite(tmp_path).using(address()) as is_serving:
        assert not is_serving
    shared.release()


@pytest.mark.parametrize("kind", ["plain", "stubborn"])
def test_down_ends_the_process_that_serves(shared: SharedSite, serve: Serve, kind: str) -> None:
    other = serve(kind)
    reaped = threading.Thread(target=other.wait)
    reaped.start()
    stopped = shared.stop(timeout_s=0.3)
    reaped.join(60)
    assert stopped is not None
    assert stopped.pid == other.pid
    assert other.returncode == (-9 if kind == "stubborn" else -15)
    assert shared.stop(timeout_s=0.3) is None
