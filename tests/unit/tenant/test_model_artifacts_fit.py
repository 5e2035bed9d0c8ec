"""Artifacts, their instances and their images: what goes together, and the sum where it does not."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from gguf import GGUFReader

from assistant.domain.errors import ConfigurationError
from assistant.model_server.weights import locate_weights
from assistant.process.settings import ModelServerSettings
from assistant.tenant.manifests import (
    DEFAULT_INSTANCES,
    INSTANCES,
    WRITER,
    EmbeddingManifest,
    LlmManifest,
    check_embedding_fit,
    check_llm_fit,
    instance_named,
    load_compatibility,
    load_images,
    memory_of,
    write_digest,
)

ROOT = Path(__file__).parents[3]
LLMS = sorted((ROOT / "model_artifacts" / "llm").glob("*/manifest.toml"))
INF2 = LlmManifest.read(ROOT / "model_artifacts/llm/qwen3-8b-inf2")
EMBEDDING = EmbeddingManifest.read(ROOT / "model_artifacts/embedding/all-minilm-l6-v2-cpu")


def changed(**fields: object) -> LlmManifest:
    return INF2.model_copy(update=fields)


@pytest.mark.parametrize("path", LLMS, ids=lambda path: path.parent.name)
def test_every_artifact_fits_the_instance_that_it_gets(path: Path) -> None:
    manifest = LlmManifest.read(path.parent)

    check_llm_fit(manifest, instance_named(DEFAULT_INSTANCES[manifest.accelerator]))


def test_the_sum_is_weights_and_cache_of_all_streams() -> None:
    needed = memory_of(INF2)

    assert needed.weights == 8_190_735_360 * 2
    assert needed.cache == 8 * 8192 * 36 * 8 * 128 * 2 * 2
    assert str(needed).startswith("weights 16.4 GB + key-value cache 9.7 GB (8 batch x 8192 tokens")


def test_every_shipped_manifest_has_the_numbers_of_its_weights() -> None:
    """For the chips those of Qwen/Qwen3-8B on the hub, for the CPU those of the installed file."""
    file = locate_weights(ModelServerSettings(task="generation")).file
    number = partial(gguf_number, GGUFReader(file))
    for manifest in (LlmManifest.read(path.parent) for path in LLMS):
        shape = manifest.weights_bytes, manifest.layers, manifest.kv_heads, manifest.head_size
        if manifest.accelerator == "cpu":
            size = number("embedding_length") // number("attention.head_count")
            expected = file.stat().st_size, number("block_count"), number("attention.head_count_kv"), size
        else:
            expected = 8_190_735_360 * 2, 36, 8, 128
        assert shape == expected, manifest.name


def gguf_number(reader: GGUFReader, name: str) -> int:
    entry = reader.get_field(f"llama.{name}")
    assert entry is not None
    return int(entry.contents())


@pytest.mark.parametrize("fields", [{"dtype": "float32"}, {"tensor_parallel": 16}])
def test_numbers_of_32_bits_and_cores_that_keep_a_whole_head_need_twice_the_cache(
    fields: dict[str, object],
) -> None:
    assert memory_of(changed(**fields)).cache == 2 * memory_of(INF2).cache


@pytest.mark.parametrize(
    ("fields", "instance", "said"),
    [
        ({"batch_size": 16}, "8xlarge", r"weights 16\.4 GB \+ key-value cache 19\.3 GB .* = 35\.7 GB"),
        ({"batch_size": 11}, "8xlarge", "does not fit the devices"),
        ({"tensor_parallel": 1}, "8xlarge", "16 GB of 1 of its 2 cores"),
        ({"tensor_parallel": 4}, "8xlarge", r"spread over 4 cores .* ml\.inf2\.8xlarge has 2"),
        ({}, "xlarge", r"16 GiB of host memory of ml\.inf2\.xlarge: weights 15\.3 GiB"),
    ],
)
def test_what_the_devices_the_cores_or_the_host_do_not_hold_is_refused_with_the_sum(
    fields: dict[str, object], instance: str, said: str
) -> None:
    check_llm_fit(changed(batch_size=10), instance_named("ml.inf2.8xlarge"))  # the most that fit
    with pytest.raises(ConfigurationError, match=said):
        check_llm_fit(changed(**fields), instance_named(f"ml.inf2.{instance}"))


def test_an_artifact_of_one_accelerator_does_not_run_on_another() -> None:
    with pytest.raises(ConfigurationError, match=r"made for inf2, and ml\.trn1\.2xlarge has trn1"):
        check_llm_fit(INF2, instance_named("ml.trn1.2xlarge"))
    with pytest.raises(ConfigurationError, match=r"made for cpu"):
        check_embedding_fit(EMBEDDING, instance_named("ml.g6e.xlarge"))


def test_an_instance_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match=r"ml\.p5\.48xlarge: not an instance .* ml\.inf2\.8xlarge"):
        instance_named("ml.p5.48xlarge")


def test_every_default_instance_is_known_and_of_its_accelerator() -> None:
    assert {
        instance_named(name).accelerator: name for name in DEFAULT_INSTANCES.values()
    } == DEFAULT_INSTANCES
    assert len({instance.name for instance in INSTANCES}) == len(INSTANCES)


@pytest.mark.parametrize("task", ["embedding", "generation"])
def test_hashes_and_sizes_of_packaged_weights_are_those_that_are_installed(
    task: Literal["embedding", "generation"],
) -> None:
    weights = locate_weights(ModelServerSettings(task=task))
    manifest = (
        EMBEDDING if task == "embedding" else LlmManifest.read(ROOT / "model_artifacts/llm/smollm2-135m-cpu")
    )

    assert weights.digest() == manifest.sha256
    assert weights.file.stat().st_size == manifest.weights_bytes
    assert weights.name == manifest.served_name


def test_a_small_model_may_not_write_and_an_instruct_model_may() -> None:
    trusted = {path.parent.name: LlmManifest.read(path.parent).answering for path in LLMS}

    assert not trusted.pop("smollm2-135m-cpu").writes_answers
    assert list(trusted.values()) == [WRITER] * 2


def test_a_manifest_without_the_table_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "smollm2-135m-cpu"
    folder.mkdir()
    text = (ROOT / "model_artifacts/llm/smollm2-135m-cpu/manifest.toml").read_text()
    (folder / "manifest.toml").write_text(text.partition("[answering]")[0])

    with pytest.raises(ConfigurationError, match=r"manifest\.toml: answering is needed"):
        LlmManifest.read(folder)


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("continuous_batching = true\n", "", "continuous_batching is needed"),
        ("continuous_batching = true", "continuous_batching = false", "must be true on inf2"),
        ("batch_size = 8", "batch_size = 1", "batch_size = 1 compiles no continuous batching"),
        ("tensor_parallel = 2", "tensor_parallel = 3", "tensor_parallel = 3 and kv_heads = 8"),
    ],
)
def test_a_compiled_artifact_batches_continuously_and_splits_its_heads_evenly(
    tmp_path: Path, was: str, becomes: str, said: str
) -> None:
    folder = tmp_path / INF2.name
    folder.mkdir()
    text = (ROOT / "model_artifacts/llm" / INF2.name / "manifest.toml").read_text()
    (folder / "manifest.toml").write_text(text.replace(was, becomes))

    with pytest.raises(ConfigurationError, match=said):
        LlmManifest.read(folder)


def test_a_gpu_must_batch_continuously_too() -> None:
    gpu = LlmManifest.read(ROOT / "model_artifacts/llm/qwen3-8b-gpu")

    with pytest.raises(ValueError, match="must be true on gpu"):
        LlmManifest.model_validate(gpu.model_dump() | {"continuous_batching": False})


def test_every_artifact_is_a_row_of_the_compatibility_table() -> None:
    table = load_compatibility(ROOT / "model_artifacts/compatibility.toml")
    images = load_images(ROOT / "images.lock.toml")

    for path in LLMS:
        table.check(LlmManifest.read(path.parent), images=images)
    table.check(EMBEDDING, images=images)


def test_image_sdk_and_ami_change_together() -> None:
    table = load_compatibility(ROOT / "model_artifacts/compatibility.toml")
    images = load_images(ROOT / "images.lock.toml")

    with pytest.raises(ConfigurationError, match=r"with neuron 2\.27\.0 on .* are not known together"):
        table.check(changed(sdk="neuron 2.27.0"), images=images)


def test_an_artifact_of_another_image_is_refused() -> None:
    table = load_compatibility(ROOT / "model_artifacts/compatibility.toml")
    images = load_images(ROOT / "images.lock.toml")
    digests = [f"sha256:{letter * 64}" for letter in "ab"]
    locked = images.image("llm_neuronx").model_copy(update={"digest": digests[0]})
    relocked = images.model_copy(update={"images": {**images.images, "llm_neuronx": locked}})

    with pytest.raises(
        ConfigurationError, match=r"compiled by sha256:b+, and images\.lock\.toml has sha256:a+"
    ):
        table.check(changed(image_digest=digests[1]), images=relocked)


def test_the_driver_that_nobody_has_shown_with_the_image_is_warned_of() -> None:
    table = load_compatibility(ROOT / "model_artifacts/compatibility.toml")
    row = table.row_of(INF2, images=load_images(ROOT / "images.lock.toml"))

    assert row.warning
    assert "2.19" in row.warning


# --- the lock of images -----------------------------------------------------------------------------------
LOCK = """\
# Kept.
[images.ours]
repository = "a/ours"  # kept, too
tag = "0.1.0"

[images.theirs]
repository = "theirs"
tag = "1.2"
registry = "aws"
regions = ["us-east-1"]

[registries.aws]
us-east-1 = "763104351884"
us-west-2 = "763104351884"
"""
DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "images.lock.toml"
    path.write_text(LOCK)
    return path


def test_the_committed_lock_has_every_image_that_a_manifest_names() -> None:
    root = Path(__file__).parents[3]
    images = load_images(root / "images.lock.toml")

    for manifest in root.glob("model_artifacts/*/*/manifest.toml"):
        name = next(line for line in manifest.read_text().splitlines() if line.startswith("image ="))
        assert name.split('"')[1] in images.images


def test_an_own_image_is_of_the_deployment_s_account(lock: Path) -> None:
    assert load_images(lock).account("ours", region="eu-central-1", own="111122223333") == "111122223333"


def test_an_image_of_aws_is_of_its_registry_s_account_in_its_regions_alone(lock: Path) -> None:
    images = load_images(lock)

    assert images.account("theirs", region="us-east-1", own="1") == "763104351884"
    with pytest.raises(
        ConfigurationError, match=r"theirs \(theirs\) is not published in us-west-2; .*: us-east-1"
    ):
        images.account("theirs", region="us-west-2", own="1")


def test_a_digest_is_written_and_nothing_else_changes(lock: Path) -> None:
    write_digest(lock, name="ours", digest=DIGEST)

    assert load_images(lock).image("ours").digest == DIGEST
    assert lock.read_text().replace(f'digest = "{DIGEST}"\n', "") == LOCK


@pytest.mark.parametrize(("name", "digest"), [("ours", "sha256:short"), ("nobody", DIGEST)])
def test_what_is_no_digest_or_no_image_leaves_the_lock_as_it_was(lock: Path, name: str, digest: str) -> None:
    with pytest.raises(ConfigurationError):
        write_digest(lock, name=name, digest=digest)
    assert lock.read_text() == LOCK
    assert list(lock.parent.iterdir()) == [lock]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('tag = "latest"', r"line 4: images\.ours\.tag: .*not a fixed version"),
        ('tag = "0.1.0"\ndigest = "sha256:1"', r"line 5: images\.ours\.digest"),
        ('tag = "0.1.0"\ncolour = 1', r"line 5: unknown key images\.ours\.colour"),
    ],
)
def test_a_lock_that_pins_nothing_is_refused_by_line(lock: Path, line: str, said: str) -> None:
    lock.write_text(LOCK.replace('tag = "0.1.0"', line))

    with pytest.raises(ConfigurationError, match=said):
        load_images(lock)
