"""The matrix of the vector leg keeps nothing of documents that are gone."""

from __future__ import annotations

import pickle

import numpy as np

from assistant.stores.index.embedded_files import VectorRow
from assistant.stores.index.embedded_reader import VectorMatrix

ONE = np.ones(2, dtype="<f4").tobytes()


def row(number: int) -> VectorRow:
    name = f"document-{number:06}"
    return VectorRow(number, f"{name}#0", name, "knowledge", "policy", updated_at_us=0, labels=(), vector=ONE)


def test_documents_that_come_and_go_do_not_make_it_larger() -> None:
    matrix, sizes = VectorMatrix(2), list[int]()
    for number in range(300, 900):
        matrix.replace([f"document-{number - 1:06}"], [row(number)])
        sizes.append(len(pickle.dumps(matrix)))
    assert len(matrix) == 1
    assert matrix.name(899) == "document-000899#0"
    assert max(sizes[300:]) <= max(sizes[:300]) + 16, "numbers become longer, by a byte or two"
