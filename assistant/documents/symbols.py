"""What fonts of symbols show: in the font Symbol, "m" is "μ". Readers of all formats use this table.

A text in such a font has letters that nobody sees: "40 mg" may be "40 μg".
"""

from __future__ import annotations

import re

# The characters of the font Symbol from 0x20 on, and from 0xA0 on.
_SYMBOL_FONT = (
    " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼"  # noqa: RUF001
)
_SYMBOL_FONT_HIGH = (
    "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…⏐⎯↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪\ufffd〉∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭"  # noqa: RUF001
)
# Font = code of a character = what it shows.
_FONTS = {
    "symbol": {0x20 + place: char for place, char in enumerate(_SYMBOL_FONT)}
    | {0xA0 + place: char for place, char in enumerate(_SYMBOL_FONT_HIGH)},
    "wingdings": dict(
        zip(
            b"\x20\x6c\x6e\x6f\x71\xa7\xa8\xd8\xdf\xe0\xe1\xe2\xe8\xf0\xfb\xfc\xfd\xfe",
            " ●■☐❑▪☐➢←→↑↓➔⇨✗✓☒☑",
            strict=True,
        )
    ),
    "wingdings 2": dict(zip(b"\x20\x4f\x50\x51\x52\x53\x54\xa3", " ✗✓☒☑☒☒☐", strict=True)),
    "wingdings 3": {0x20: " "},
    "webdings": dict(zip(b"\x20\x61\x63\x67\x6e\x72", " ✔□■●✕", strict=True)),
    "zapfdingbats": dict(
        zip(b"\x20\x33\x34\x35\x36\x37\x38\x6c\x6e\x6f\x71\x75", " ✓✔✕✖✗✘●■❏❑◆", strict=True)
    ),
}
UNKNOWN_SYMBOL = "\ufffd"
_STYLE = re.compile(r"[ -]?(mt|std|regular)\b|(?<=zapf) ")
"""What other names of these fonts have: "Symbol MT", "Zapf Dingbats"."""


def symbols(text: str, font: str) -> str:
    """Return a text as its font shows it. Fonts of symbols have their characters at 0xF000 too. A symbol that
    is not known is UNKNOWN_SYMBOL."""
    known = _FONTS.get(_STYLE.sub("", font.lower()))
    return text if known is None and text.isascii() else "".join(_symbol(char, known) for char in text)


def _symbol(char: str, known: dict[int, str] | None) -> str:
    """Return what a character shows. ``known``: the characters of its font; None for a font of letters, in
    which a character of the private area cannot be known."""
    if char.isspace():
        return char
    is_private = 0xE000 <= ord(char) <= 0xF8FF
    code = ord(char) - 0xF000 if is_private else ord(char)
    if known is None or not 0 <= code <= 0xFF:
        return UNKNOWN_SYMBOL if is_private else char
    return known.get(code, UNKNOWN_SYMBOL)
