"""The cases that judge the patients' data filter are what the generator writes, with valid check digits."""

import json
import re

from tools.patients_data_cases import FOLDER, luhn_digit, written

CASES = [json.loads(line) for line in (FOLDER / "cases.jsonl").read_text(encoding="utf-8").splitlines()]


def values(kind: str) -> list[str]:
    return [case["text"][start:end] for case in CASES for start, end, found in case["spans"] if found == kind]


def test_the_committed_cases_are_what_the_generator_writes() -> None:
    assert (FOLDER / "cases.jsonl").read_text(encoding="utf-8") == written()


def test_there_are_enough_cases_with_and_without_patients_data() -> None:
    assert sum(bool(case["spans"]) for case in CASES) >= 400
    assert sum(not case["spans"] for case in CASES) >= 150


def test_spans_are_in_order_and_apart() -> None:
    for case in CASES:
        edges = [edge for start, end, _ in case["spans"] for edge in (start, end)]
        assert edges == sorted(set(edges)), case["text"]


def test_check_digits_are_valid() -> None:
    npis = values("NPI")
    cards = [re.sub("[ -]", "", card) for card in values("CARD_NUMBER")]
    assert all(luhn_digit(f"80840{npi[:-1]}") == npi[-1] for npi in npis)
    assert all(luhn_digit(card[:-1]) == card[-1] for card in cards)
    assert len(npis) >= 20
    assert len(cards) >= 20


def test_the_check_digit_is_that_of_published_examples() -> None:
    assert luhn_digit("80840123456789") == "3"  # the example of CMS's NPI check digit note
    assert luhn_digit("411111111111111") == "1"
