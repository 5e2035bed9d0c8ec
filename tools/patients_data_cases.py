"""Fills the templates of patients' data with invented values: ``python -m tools.patients_data_cases``.

The result, evaluation/patients_data/cases.jsonl, judges the filter that replaces patients' data before texts
leave the records. The same seed gives the same file.
"""

from __future__ import annotations

import json
import random
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "evaluation" / "patients_data"
FILLS = 4
"""Cases made of each template that has a slot: other values in other formats."""
_SLOT = re.compile(r"\{([A-Z]+)\}")
_DEA_REGISTRANTS = "ABFGM"
_CARD_PREFIXES = (("4", 16), ("51", 16), ("55", 16), ("37", 15), ("6011", 16))
_BORN_SINCE, _BORN_UNTIL = date(1931, 1, 1), date(2024, 12, 31)


@dataclass(frozen=True, slots=True)
class Case:
    text: str
    spans: tuple[tuple[int, int, str], ...]
    """Start, end (exclusive) and kind, by start."""

    @property
    def line(self) -> str:
        return json.dumps({"text": self.text, "spans": self.spans}, ensure_ascii=False)


class Values:
    """Draws one value of each kind, in one of the formats that people type."""

    def __init__(self, lists: dict[str, list[str]], *, seed: str) -> None:
        self._lists = lists
        self._random = random.Random(seed)  # noqa: S311 - invented values, not secrets
        self._makers: dict[str, tuple[str, Callable[[], str]]] = {
            "NAME": ("NAME", self._full_name),
            "FIRST": ("NAME", self._given),
            "LAST": ("NAME", self._family),
            "LASTFIRST": ("NAME", lambda: f"{self._family()}, {self._given()}"),
            "INITIAL": ("NAME", lambda: f"{self._given()[0]}. {self._family()}"),
            "NAMELC": ("NAME", lambda: self._full_name().lower()),
            "FIRSTLC": ("NAME", lambda: self._given().lower()),
            "LASTLC": ("NAME", lambda: self._family().lower()),
            "PHONE": ("PHONE_NUMBER", self._phone),
            "EMAIL": ("EMAIL", self._email),
            "SSN": ("SSN", self._ssn),
            "DOB": ("DATE_OF_BIRTH", self._birth_date),
            "ADDRESS": ("ADDRESS", self._address),
            "MEMBER": ("MEMBER_NUMBER", self._member),
            "RX": ("RX_NUMBER", self._prescription),
            "NPI": ("NPI", self._npi),
            "DEA": ("DEA", self._dea),
            "MRN": ("MRN", self._record_number),
            "CARD": ("CARD_NUMBER", self._card),
            "IP": ("IP_ADDRESS", self._ip),
            "URL": ("URL", self._url),
        }

    def draw(self, slot: str) -> tuple[str, str]:
        """Return kind and value for a slot. Raises KeyError for an unknown slot."""
        kind, make = self._makers[slot]
        return kind, make()

    def _one(self, of: str) -> str:
        return self._random.choice(self._lists[of])

    def _given(self) -> str:
        return self._one("given")

    def _family(self) -> str:
        return self._one("family")

    def _digits(self, count: int) -> str:
        return "".join(str(self._random.randrange(10)) for _ in range(count))

    def _full_name(self) -> str:
        return f"{self._given()} {self._family()}"

    def _phone(self) -> str:
        area = (
            f"{self._random.choice('23456789')}{self._random.choice('0')}{self._random.choice('123456789')}"
        )
        line = f"01{self._digits(2)}"
        formats = (
            "({a}) 555-{l}", "{a}-555-{l}", "{a}.555.{l}", "{a} 555 {l}", "+1 {a} 555 {l}", "1-{a}-555-{l}",
            "{a}555{l}", "({a})555-{l}", "+1 ({a}) 555-{l}", "{a} 555-{l}",
        )  # fmt: skip
        return self._random.choice(formats).format(a=area, l=line)

    def _email(self) -> str:
        given, family = (_ascii(name) for name in (self._given(), self._family()))
        names = (
            f"{given}.{family}",
            f"{given[0]}{family}{self._digits(2)}",
            f"{family}_{given}",
            f"{given}+rx",
        )
        name = self._random.choice(names)
        return f"{name if self._random.random() < 0.7 else name.upper()}@{self._one('mail_hosts')}"

    def _ssn(self) -> str:
        area = self._random.choice([number for number in range(1, 900) if number != 666])
        parts = (
            f"{area:03}",
            f"{self._random.randrange(1, 100):02}",
            f"{self._random.randrange(1, 10_000):04}",
        )
        return self._random.choice(("-", "-", " ", "")).join(parts)

    def _birth_date(self) -> str:
        days = (_BORN_UNTIL - _BORN_SINCE).days
        born = _BORN_SINCE + timedelta(days=self._random.randrange(days))
        formats = (
            f"{born:%m/%d/%Y}",
            f"{born:%m-%d-%Y}",
            f"{born.month}/{born.day}/{born:%y}",
            f"{born:%B} {born.day}, {born.year}",
            f"{born.day} {born:%b} {born.year}",
            f"{born:%Y-%m-%d}",
            f"{born:%m.%d.%Y}",
            f"{born:%b} {born.day} {born.year}",
        )
        return self._random.choice(formats)

    def _address(self) -> str:
        town = self._one("towns")
        if self._random.random() < 0.1:
            return f"PO Box {self._random.randrange(10, 9_000)}, {town}"
        street = f"{self._random.randrange(1, 9_999)} {self._one('streets')}{self._one('units')}"
        return street if self._random.random() < 0.25 else f"{street}, {town}"

    def _member(self) -> str:
        letters = "".join(self._random.choice("ABCDEFGHJKLMNPQRTUVWXYZ") for _ in range(3))
        one, two, three = letters
        beneficiary = f"1{one}{self._digits(1)}4-{two}{three}5-{one}K7{self._digits(1)}"
        formats = (
            f"{letters}{self._digits(9)}",
            f"{letters} {self._digits(9)}",
            f"W{self._digits(9)} 01",
            f"{self._digits(9)}-02",
            beneficiary,
            f"H{self._digits(8)}",
            self._digits(11),
        )
        return self._random.choice(formats)

    def _prescription(self) -> str:
        number = f"{self._random.randrange(1, 10)}{self._digits(6)}"
        return self._random.choice(
            (number, number, f"{number}-{self._digits(5)}", f"C{number}", f"{number[:3]} {number[3:]}")
        )

    def _npi(self) -> str:
        base = f"{self._random.choice('12')}{self._digits(8)}"
        return base + luhn_digit(f"80840{base}")

    def _dea(self) -> str:
        digits = self._digits(6)
        total = sum(map(int, digits[0::2])) + 2 * sum(map(int, digits[1::2]))
        letters = self._random.choice(_DEA_REGISTRANTS) + _ascii(self._family())[0].upper()
        return f"{letters}{digits}{total % 10}"

    def _record_number(self) -> str:
        return self._random.choice(
            (self._digits(8), self._digits(7), f"M{self._digits(7)}", f"{self._digits(3)}-{self._digits(5)}")
        )

    def _card(self) -> str:
        prefix, length = self._random.choice(_CARD_PREFIXES)
        body = prefix + self._digits(length - len(prefix) - 1)
        number = body + luhn_digit(body)
        parts = (number[:4], number[4:10], number[10:]) if length == 15 else tuple(re.findall("....", number))
        return self._random.choice((" ", "-", "", " ")).join(parts)

    def _ip(self) -> str:
        if self._random.random() < 0.25:
            return (
                f"2001:db8:{self._random.randrange(0x1000, 0xFFFF):x}::{self._random.randrange(1, 0xFFFF):x}"
            )
        return (
            f"{self._random.choice(('203.0.113', '198.51.100', '192.0.2'))}.{self._random.randrange(1, 255)}"
        )

    def _url(self) -> str:
        return self._one("sites").format(f"{_ascii(self._family())}{self._digits(4)}")


def luhn_digit(digits: str) -> str:
    """Return the check digit that makes ``digits`` and itself valid by Luhn's rule (ISO/IEC 7812-1)."""
    total = 0
    for at, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if at % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return str(-total % 10)


def _ascii(name: str) -> str:
    folded = name.lower().translate(str.maketrans("áéíóúñöüłó", "aeiounoulo"))
    return re.sub("[^a-z]", "", folded)


def filled(template: str, values: Values) -> Case:
    """Return the template with a value in each slot, and where the values are."""
    text, spans, end = "", list[tuple[int, int, str]](), 0
    for slot in _SLOT.finditer(template):
        kind, value = values.draw(slot[1])
        text += template[end : slot.start()]
        spans.append((len(text), len(text) + len(value), kind))
        text, end = text + value, slot.end()
    return Case(text + template[end:], tuple(spans))


def cases(templates: Sequence[str], lists: dict[str, list[str]]) -> Iterator[Case]:
    """Yield ``FILLS`` cases of each template with slots, and one of each other template."""
    for template in templates:
        for fill in range(FILLS if _SLOT.search(template) else 1):
            yield filled(template, Values(lists, seed=f"{fill}:{template}"))


def written(folder: Path = FOLDER) -> str:
    """Return the content of cases.jsonl."""
    lines = (folder / "templates.jsonl").read_text(encoding="utf-8").splitlines()
    lists: dict[str, list[str]] = tomllib.loads((folder / "values.toml").read_text(encoding="utf-8"))
    return "".join(f"{case.line}\n" for case in cases([json.loads(line)["text"] for line in lines], lists))


if __name__ == "__main__":
    (FOLDER / "cases.jsonl").write_text(written(), encoding="utf-8")
