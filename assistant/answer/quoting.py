"""Quotes untrusted text in a prompt, so that it is read as data."""

from __future__ import annotations

import re

from assistant.text.marks import CONTROL

# Tags of chat templates and our own delimiters: "<|im_start|>", "</document>", "<s>", "[INST]".
_TAG_OPENING = re.compile(r"<(?=[A-Za-z/|!?<])")
_BRACKET_TAG = re.compile(r"\[(/?[A-Z_]{3,})\]")
_UNIT_NUMBER = re.compile(r"\[(?=\d{1,3}(?:\.\d{1,3})?\])")
_CONTROL = re.compile(f"[{CONTROL}]")


def quoted(text: str) -> str:
    """Return untrusted text on one line, neutralised."""
    return " ".join(neutralise(text).split())


def neutralise(text: str) -> str:
    """Return untrusted text without what a chat template or our delimiters treat as a tag, and without
    numbers of units.

    Their brackets become others that look alike, so the text reads as before: "(INST)", "(2.4]".
    """
    text = _CONTROL.sub(" ", text)
    text = _TAG_OPENING.sub("\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}", text)
    return _UNIT_NUMBER.sub("(", _BRACKET_TAG.sub(r"(\1)", text))
