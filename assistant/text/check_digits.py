"""Check digits of numbers that people type.

python-stdnum has neither of the two American ones, and is LGPL.
"""

from __future__ import annotations


def digits_of(value: str) -> str:
    return "".join(character for character in value if character.isdigit())


def passes_luhn(digits: str) -> bool:
    """Return whether the last digit is the check digit of ISO/IEC 7812."""
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    return bool(digits) and (sum(map(int, digits[-1::-2])) + sum(n // 10 + n % 10 for n in doubled)) % 10 == 0


def is_npi(value: str) -> bool:
    """Return whether ten digits are a National Provider Identifier: Luhn with the prefix 80840."""
    digits = digits_of(value)
    return len(digits) == 10 and digits[0] in "12" and passes_luhn(f"80840{digits}")


def is_dea_number(value: str) -> bool:
    """Return whether the seventh digit is the check digit of a DEA number."""
    digits = [int(digit) for digit in digits_of(value)[-7:]]
    return len(digits) == 7 and (sum(digits[0:6:2]) + 2 * sum(digits[1:6:2])) % 10 == digits[6]
