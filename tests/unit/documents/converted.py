"""What is read of a converted file, and tables that all formats read alike."""

from __future__ import annotations

import pytest

from assistant.documents.formats import convert
from assistant.documents.page import Page
from assistant.documents.parsing.render import render
from assistant.domain.documents import ParsedDocument, UnitKind
from assistant.domain.errors import DocumentInvalidError


def parsed(converted: Page) -> ParsedDocument:
    return render(converted).parsed


def lost(converted: Page) -> tuple[str, ...]:
    return tuple(map(str, render(converted).losses))


def units(converted: Page, kind: UnitKind | None = None) -> list[str]:
    return [unit.text for unit in parsed(converted).units if kind in (None, unit.kind)]


def refusal(name: str, raw: bytes) -> str:
    with pytest.raises(DocumentInvalidError) as error:
        convert(name, raw)
    return error.value.message


TABLES: dict[str, tuple[list[str], list[str]]] = {
    "an empty row begins a table": (
        ["Item;Price", "Aspirin;4.50", "", "Branch;Opens at", "North;08:00"],
        ["Item: Aspirin; Price: 4.50", "Branch: North; Opens at: 08:00"],
    ),
    "of words alone": (
        ["Item;Maker", "Aspirin;Bayer", "", "Branch;Manager", "North;Ann Lee"],
        ["Item: Aspirin; Maker: Bayer", "Branch: North; Manager: Ann Lee"],
    ),
    "a wider table follows at once": (
        ["Item;Price", "Aspirin;4.50", "Branch;Opens at;Phone", "North;08:00;555"],
        ["Item: Aspirin; Price: 4.50", "Branch: North; Opens at: 08:00; Phone: 555"],
    ),
    "a narrower table follows at once": (
        ["Item;Price;Shelf", "Aspirin;4.50;2", "Branch;Opens at", "North;08:00"],
        ["Item: Aspirin; Price: 4.50; Shelf: 2", "Branch: North; Opens at: 08:00"],
    ),
    "each has a title": (
        ["Prices", "Item;Price", "Aspirin;4.50", "Hours", "Branch;Opens at", "North;08:00", "South;09:00"],
        [
            "Prices",
            "Item: Aspirin; Price: 4.50",
            "Hours",
            "Branch: North; Opens at: 08:00",
            "Branch: South; Opens at: 09:00",
        ],
    ),
    "a row of the group that was named begins no table": (
        [
            "Group;Kind;Drug;Cost",
            "PAIN;;;",
            "PAIN;Oral;Ibuprofen;$0.02",
            "SKIN;;;",
            "SKIN;Tube;Mild cream;$1 (15g)",
            "SKIN;Tube;Ointment 1oz;3.21",
        ],
        [
            "Group: PAIN",
            "Group: PAIN; Kind: Oral; Drug: Ibuprofen; Cost: $0.02",
            "Group: SKIN",
            "Group: SKIN; Kind: Tube; Drug: Mild cream; Cost: $1 (15g)",
            "Group: SKIN; Kind: Tube; Drug: Ointment 1oz; Cost: 3.21",
        ],
    ),
    "rows after an empty row keep their names": (
        ["Item;Price", "Aspirin;4.50", "", "Ibuprofen;3", "", "Total;7.50"],
        ["Item: Aspirin; Price: 4.50", "Item: Ibuprofen; Price: 3", "Item: Total; Price: 7.50"],
    ),
    "rows of words after an empty row share a value": (
        ["Topic;Team", "Fees;Desk", "", "Loss;Desk", "Hours;Phone"],
        ["Topic: Fees; Team: Desk", "Topic: Loss; Team: Desk", "Topic: Hours; Team: Phone"],
    ),
    "side by side": (
        ["Item;Price;;Branch;Opens", "Aspirin;4.50;;North;08:00", "Ibuprofen;3;;;"],
        ["Item: Aspirin; Price: 4.50", "Item: Ibuprofen; Price: 3", "Branch: North; Opens: 08:00"],
    ),
    "an empty column is space in a table": (
        ["Item;;Price;Stock", "Aspirin;;4.50;9", "Ibuprofen;;3;8"],
        ["Item: Aspirin; Price: 4.50; Stock: 9", "Item: Ibuprofen; Price: 3; Stock: 8"],
    ),
    "two rows of names": (
        ["Plan;Copay;;Days", ";Retail;Mail;", "Basic;10;20;30"],
        ["Plan: Basic; Copay Retail: 10; Copay Mail: 20; Days: 30"],
    ),
    "a row without a value": (
        ["Item;Days;Fee", "Phone;30;5", "Case;no return;", "Cable;14;2"],
        ["Item: Phone; Days: 30; Fee: 5", "Item: Case; Days: no return", "Item: Cable; Days: 14; Fee: 2"],
    ),
    "rows without names": (["Aspirin;5", "Ibuprofen;6"], ["Aspirin | 5", "Ibuprofen | 6"]),
    "amounts without names": (["Aspirin;5 mg", "Ibuprofen;10 mg"], ["Aspirin | 5 mg", "Ibuprofen | 10 mg"]),
    "years are names": (["Plan;2025;2026", "Basic;5;6"], ["Plan: Basic; 2025: 5; 2026: 6"]),
}
"""By what is odd: lines of separated values, and the units that they are."""
