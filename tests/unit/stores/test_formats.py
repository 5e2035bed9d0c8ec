"""Rows of this release, as the release before reads them."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from assistant.domain.answers import AnswerRecord
from assistant.domain.desk import DeskItem
from assistant.domain.errors import ConfigurationError
from assistant.stores.formats import StoreFormat, encode_row, join_row, refuse_format
from tests.contracts.samples import answer
from tests.stage.knowledge import ANSWER, new_access, new_act, new_answer, new_case, refusals

ROWS = (new_answer(), answer(), new_act(), new_access(), new_case())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_the_release_before_reads_every_row(row: BaseModel) -> None:
    body, _ = encode_row(row)
    assert refusals(type(row).__name__, body) == []


def test_the_release_before_reads_the_case_of_a_desk_item() -> None:
    body, _ = encode_row(new_case())
    assert refusals("Case", DeskItem.model_validate_json(body).body) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_a_row_comes_back_whole(row: BaseModel) -> None:
    assert type(row).model_validate_json(join_row(*encode_row(row))) == row


def test_the_release_before_refuses_a_row_as_it_is() -> None:
    assert refusals("AnswerRecord", new_answer().model_dump_json()) != []


def test_an_answer_of_the_release_before_is_read() -> None:
    record = AnswerRecord.model_validate(ANSWER)
    assert (record.reading, record.red_flags, record.sentences[0].cited) == (None, (), ())


def test_a_store_of_a_newer_release_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"has format 4, and this release reads format 2.*--back"):
        refuse_format(StoreFormat(4, 3), store="records", place="the table", command="upgrade")


def test_a_store_of_a_newer_release_that_this_one_reads_is_used() -> None:
    refuse_format(StoreFormat(3, 2), store="records", place="the table", command="upgrade")
