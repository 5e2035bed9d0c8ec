from __future__ import annotations

from pathlib import Path

import pytest

from assistant.cli.search import LONGEST_LINE_BYTES, BadLine, Query, read_queries
from assistant.domain.errors import NotFoundError


def read(path: Path, content: bytes) -> list[Query | BadLine]:
    path.write_bytes(content)
    return list(read_queries(path))


def test_lines_are_read_in_order_and_blank_ones_passed_over(tmp_path: Path) -> None:
    content = b'{"qid": "1", "question": "a"}\n\n{"qid": "2", "question": "b", "relevant": []}'
    assert read(tmp_path / "q.jsonl", content) == [
        Query(qid="1", question="a"),
        Query(qid="2", question="b"),
    ]


def test_a_number_as_qid_is_its_text(tmp_path: Path) -> None:
    assert read(tmp_path / "q.jsonl", b'{"qid": 7, "question": "a"}') == [Query(qid="7", question="a")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "Invalid JSON"),
        (b"[]", "should be an object"),
        (b'{"qid": "2"}', "question: Field required"),
        (b'{"qid": "2", "question": "  "}', "question: it is empty"),
        (b'{"qid": "1", "question": "again"}', "qid 1 came before"),
        (b'{"qid": "2", "question": "\xff"}', "Invalid JSON"),
        (b'{"qid": "2", "question": "' + b"x" * LONGEST_LINE_BYTES + b'"}', "longer than"),
    ],
)
def test_a_bad_line_is_named_by_number_and_the_others_are_read(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    good = b'{"qid": "1", "question": "a"}\n'
    last = b'\n{"qid": "3", "question": "c"}\n'
    found = read(tmp_path / "q.jsonl", good + line + last)
    bad = found[1]
    assert isinstance(bad, BadLine)
    assert bad.number == 2
    assert reason in bad.reason
    assert [one.qid for one in found if isinstance(one, Query)] == ["1", "3"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nowhere\.jsonl"):
        list(read_queries(tmp_path / "nowhere.jsonl"))
