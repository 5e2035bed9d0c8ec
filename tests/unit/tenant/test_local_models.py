"""Models added on this machine: manifests, each tenant's choice, and the tenant as it is then served."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from assistant.domain.errors import ConfigurationError
from assistant.process.settings import ServiceSettings
from assistant.tenant.added_models import (
    MANIFEST_FILE,
    PACKAGED,
    AddedEmbedding,
    AddedModel,
    ServedLlm,
    TenantModels,
    added_models,
    choose,
    choose_packaged,
    local_models,
    read_added_model,
)
from assistant.tenant.manifests import WRITER, AnsweringTable
from assistant.tenant.tenant import TenantConfig

EMBEDDING = AddedEmbedding(
    name="e5.small",
    path=Path("/weights/e5"),
    sha256="a" * 64,
    dimensions=768,
    max_tokens=128,
    pooling="mean",
    cosine_unrelated=0.72,
    cosine_related=0.86,
)
UNMEASURED = EMBEDDING.model_copy(update={"cosine_unrelated": None, "cosine_related": None})
LLM = ServedLlm(
    name="qwen3-4b",
    model="qwen3-4b",
    url="http://127.0.0.1:8080/v1",
    key_file=Path('/keys/a "b"'),
    context_tokens=4096,
    answering=WRITER,
)
SERVED = ServedLlm(
    name="tall",
    model="tall:8b",
    url="http://127.0.0.1:11434/v1",
    key_file=Path("/keys/tall"),
    context_tokens=8192,
    answering=WRITER.model_copy(update={"reads_tokens": 900}),
)
TENANT = TenantConfig(schema_version=1, name="shop", display_name="Shop")


def added(models_dir: Path, *models: AddedModel) -> Path:
    for model in models:
        (models_dir / model.name).mkdir(parents=True, exist_ok=True)
        (models_dir / model.name / MANIFEST_FILE).write_text(model.as_toml())
    return models_dir


@pytest.mark.parametrize("model", [EMBEDDING, LLM, SERVED], ids=lambda model: model.name)
def test_a_manifest_is_read_as_it_was_written(tmp_path: Path, model: AddedModel) -> None:
    assert read_added_model(added(tmp_path, model) / model.name) == model


def test_a_manifest_that_was_changed_by_hand_is_named_with_its_key(tmp_path: Path) -> None:
    folder = added(tmp_path, LLM) / LLM.name
    text = (folder / MANIFEST_FILE).read_text()
    (folder / MANIFEST_FILE).write_text(text.replace("system_role = true", 'system_role = "two"'))

    with pytest.raises(ConfigurationError, match=r"manifest\.toml: line \d+: answering\.system_role"):
        read_added_model(folder)


def test_a_gguf_of_an_earlier_release_is_refused_for_the_tenant_that_chose_it(tmp_path: Path) -> None:
    folder = added(tmp_path, EMBEDDING, LLM) / LLM.name
    choose(tmp_path, "shop", LLM)
    text = (folder / MANIFEST_FILE).read_text()
    (folder / MANIFEST_FILE).write_text(text.replace('kind = "served"\n', ""))

    assert added_models(tmp_path) == [EMBEDDING]
    assert local_models(tmp_path, ["branch"]) == {"branch": PACKAGED}
    with pytest.raises(ConfigurationError, match=r"llama-server -m FILE.* --url .* --model qwen3-4b"):
        local_models(tmp_path, ["shop"])


def test_a_choice_is_one_tenant_s_and_stays(tmp_path: Path) -> None:
    added(tmp_path, EMBEDDING, LLM)
    choose(tmp_path, "shop", LLM)
    choose(tmp_path, "shop", EMBEDDING)

    found = local_models(tmp_path, ["shop", "branch"])

    assert found == {"shop": TenantModels(embedding=EMBEDDING, generation=LLM), "branch": PACKAGED}
    assert added_models(tmp_path) == [EMBEDDING, LLM]


def test_back_to_the_packaged_models(tmp_path: Path) -> None:
    choose(added(tmp_path, LLM), "shop", LLM)
    choose_packaged(tmp_path, "shop")

    assert local_models(tmp_path, ["shop"]) == {"shop": PACKAGED}


def test_a_chosen_model_that_is_gone_is_named_with_the_way_out(tmp_path: Path) -> None:
    choose(added(tmp_path, LLM), "shop", LLM)
    (tmp_path / LLM.name / MANIFEST_FILE).unlink()

    with pytest.raises(ConfigurationError, match=r"shop uses the model qwen3-4b.*use --packaged"):
        local_models(tmp_path, ["shop"])


ADD_AGAIN = r"assistant models add /weights/e5 --name e5\.small --pooling mean --tenant shop"


def test_a_model_whose_cosines_were_never_measured_is_not_chosen(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=ADD_AGAIN):
        choose(added(tmp_path, UNMEASURED), "shop", UNMEASURED)

    assert local_models(tmp_path, ["shop"]) == {"shop": PACKAGED}


def test_a_chosen_model_of_an_earlier_release_must_be_added_again(tmp_path: Path) -> None:
    choose(added(tmp_path, EMBEDDING), "shop", EMBEDDING)
    added(tmp_path, UNMEASURED)

    with pytest.raises(ConfigurationError, match=ADD_AGAIN):
        local_models(tmp_path, ["shop"])
    assert local_models(tmp_path, ["branch"]) == {"branch": PACKAGED}


def test_a_broken_record_of_choices_is_named(tmp_path: Path) -> None:
    (tmp_path / "choices.json").write_text("[]")

    with pytest.raises(ConfigurationError, match=r"choices\.json: invalid record"):
        local_models(tmp_path, ["shop"])


def test_the_tenant_is_served_with_the_chosen_models_names_and_sizes() -> None:
    served = TenantModels(embedding=EMBEDDING, generation=LLM).applied_to(TENANT)

    assert (served.embedding.model, served.embedding.dimensions) == ("e5.small", 768)
    assert served.embedding.max_tokens == 128  # passages are cut by the model's limit
    assert (served.embedding.cosine_unrelated, served.embedding.cosine_related) == (0.72, 0.86)
    assert (served.generation.model, served.generation.context_tokens) == ("qwen3-4b", 4096)
    assert served.embedding.endpoint != served.generation.endpoint
    assert PACKAGED.applied_to(TENANT) == TENANT


@pytest.mark.parametrize(
    ("models", "mode", "writes"),
    [
        (PACKAGED, "auto", False),
        (TenantModels(generation=LLM), "auto", True),
        (TenantModels(generation=LLM), "quoted", False),
        (TenantModels(generation=LLM.model_copy(update={"answering": AnsweringTable()})), "auto", False),
        (TenantModels(embedding=EMBEDDING), "auto", False),
        (TenantModels(generation=SERVED), "auto", True),
    ],
)
def test_a_model_writes_only_where_manifest_and_tenant_let_it(
    models: TenantModels, mode: str, writes: bool
) -> None:
    answers = TENANT.answers.model_copy(update={"mode": mode})

    assert models.writes(TENANT.model_copy(update={"answers": answers})) is writes


def place(url: str, **more: object) -> ServedLlm:
    given = {"name": "tall", "model": "tall", "url": url, "context_tokens": 4096, **more}
    return ServedLlm.model_validate(given)


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.8.8.8", "[::1]", "10.1.2.3", "192.168.0.7:8000", "[fd00::1]", "[::ffff:10.0.0.1]"],
)
def test_a_server_on_this_machine_or_a_private_network_needs_no_permission(host: str) -> None:
    assert place(f"http://{host}/v1").sends_questions_to is None


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "gpu-box", "localhost.example.com", "[::ffff:8.8.8.8]", "2130706433", "100.64.0.1"]
)
def test_any_other_host_must_be_named(host: str) -> None:
    with pytest.raises(ValidationError, match=r"--sends-questions-to .*\[\[reach\]\]"):
        place(f"https://{host}/v1")

    assert place(f"https://{host}/v1", sends_questions_to=host.strip("[]")).sends_questions_to
    with pytest.raises(ValidationError, match="is not the host of the URL"):
        place(f"https://{host}/v1", sends_questions_to="other.example.com")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://127.0.0.1/v1", "not the base URL"),
        ("127.0.0.1:8000/v1", "not the base URL"),
        ("http://127.0.0.1/v1?key=a", "not the base URL"),
        ("http://127.0.0.1/v1\n.example.com", "not the base URL"),
        ("http://me:word@127.0.0.1/v1", "holds a user or password"),  # pragma: allowlist secret
        ("http://127.0.0.1@example.com/v1", "holds a user or password"),
    ],
)
def test_a_url_that_is_no_plain_address_is_refused(url: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        place(url)


def test_a_process_is_told_the_choice_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ServiceSettings(
        issuer="http://issuer",
        jwks_url="http://issuer/jwks.json",
        local_models={
            "shop": TenantModels(embedding=EMBEDDING, generation=LLM),
            "branch": TenantModels(generation=SERVED),
        },
        quoted_tenants=("branch",),
    )
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)

    read = ServiceSettings.read()

    assert read == given
    assert read.as_served(TENANT).generation.model == "qwen3-4b"
    assert read.as_served(TENANT).embedding.cosine_unrelated == 0.72


def test_a_manifest_whose_url_was_changed_by_hand_is_held_to_the_same_rule(tmp_path: Path) -> None:
    folder = added(tmp_path, SERVED) / SERVED.name
    text = (folder / MANIFEST_FILE).read_text()
    (folder / MANIFEST_FILE).write_text(text.replace("127.0.0.1:11434", "models.example.com"))

    with pytest.raises(ConfigurationError, match=r"--sends-questions-to models\.example\.com"):
        read_added_model(folder)
