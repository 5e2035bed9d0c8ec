"""Models added on this machine: manifests, each tenant's choice, and the tenant as it is then served."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.settings.local_models import (
    MANIFEST_FILE,
    PACKAGED,
    AddedEmbedding,
    AddedLlm,
    AddedModel,
    TenantModels,
    added_models,
    choose,
    choose_beside,
    choose_packaged,
    keep_live_only,
    local_models,
    read_added_model,
)
from assistant.settings.model_artifacts import WRITER, AnsweringTable
from assistant.settings.process import ServiceSettings
from assistant.settings.tenant import TenantConfig

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
LLM = AddedLlm(
    name="qwen3-4b", path=Path('/weights/a "b".gguf'), sha256="b" * 64, context_tokens=4096, answering=WRITER
)
TENANT = TenantConfig(schema_version=1, name="shop", display_name="Shop")


def added(models_dir: Path, *models: AddedModel) -> Path:
    for model in models:
        (models_dir / model.name).mkdir(parents=True, exist_ok=True)
        (models_dir / model.name / MANIFEST_FILE).write_text(model.as_toml())
    return models_dir


@pytest.mark.parametrize("model", [EMBEDDING, LLM], ids=lambda model: model.task)
def test_a_manifest_is_read_as_it_was_written(tmp_path: Path, model: AddedModel) -> None:
    assert read_added_model(added(tmp_path, model) / model.name) == model


def test_a_manifest_that_was_changed_by_hand_is_named_with_its_key(tmp_path: Path) -> None:
    folder = added(tmp_path, LLM) / LLM.name
    text = (folder / MANIFEST_FILE).read_text()
    (folder / MANIFEST_FILE).write_text(text.replace("passages = 5", 'passages = "five"'))

    with pytest.raises(ConfigurationError, match=r"manifest\.toml: line \d+: answering\.passages"):
        read_added_model(folder)


def test_a_manifest_without_a_task_is_refused(tmp_path: Path) -> None:
    folder = added(tmp_path, LLM) / LLM.name
    text = (folder / MANIFEST_FILE).read_text()
    (folder / MANIFEST_FILE).write_text(text.replace('task = "generation"\n', ""))

    with pytest.raises(ConfigurationError, match="task is missing"):
        read_added_model(folder)


def test_a_choice_is_one_tenant_s_and_stays(tmp_path: Path) -> None:
    added(tmp_path, EMBEDDING, LLM)
    choose(tmp_path, "shop", LLM)
    choose(tmp_path, "shop", EMBEDDING)

    found = local_models(tmp_path, ["shop", "branch"])

    assert found == {"shop": TenantModels(embedding=EMBEDDING, generation=LLM), "branch": PACKAGED}
    assert added_models(tmp_path) == [EMBEDDING, LLM]


def test_a_model_beside_is_kept_until_the_live_one_is_the_only_one(tmp_path: Path) -> None:
    added(tmp_path, EMBEDDING)
    choose_beside(tmp_path, "shop", EMBEDDING)
    found = local_models(tmp_path, ["shop"])["shop"]
    assert (found.embedding, found.beside, found.served) == (None, EMBEDDING, PACKAGED)
    keep_live_only(tmp_path, "shop", EMBEDDING)
    assert local_models(tmp_path, ["shop"])["shop"] == TenantModels(embedding=EMBEDDING)
    choose_beside(tmp_path, "shop", None)
    assert local_models(tmp_path, ["shop"])["shop"].beside == "packaged"


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
    ],
)
def test_a_model_writes_only_where_manifest_and_tenant_let_it(
    models: TenantModels, mode: str, writes: bool
) -> None:
    answers = TENANT.answers.model_copy(update={"mode": mode})

    assert models.writes(TENANT.model_copy(update={"answers": answers})) is writes


def test_a_process_is_told_the_choice_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ServiceSettings(
        issuer="http://issuer",
        jwks_url="http://issuer/jwks.json",
        local_models={"shop": TenantModels(embedding=EMBEDDING, generation=LLM)},
        quoted_tenants=("branch",),
    )
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)

    read = ServiceSettings.read()

    assert read == given
    assert read.as_served(TENANT).generation.model == "qwen3-4b"
    assert read.as_served(TENANT).embedding.cosine_unrelated == 0.72
