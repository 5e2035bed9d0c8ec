"""What a client could follow, load or run in a Markdown text. The judge shares no code with the product."""

from __future__ import annotations

import re
from collections.abc import Collection

from markdown_it import MarkdownIt
from markdown_it.token import Token

_RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_LINK_LIKE = re.compile(
    r"[a-z][a-z0-9+.-]*:[/\\]{2}|(?<![\w:/\\])[/\\]{2}\w|(?<![^\W_])www\.\w"
    r"|(?<![a-z0-9])(?:javascript|vbscript):\S"
    r"|(?<!\w)(?:mailto|https?|ftp):\S|(?<!\w)data:(?:[a-z]+/[a-z]+)?[,;]"
    r"|(?<![\w.@+-])(?:[^\W_][\w-]*\.)+(?:com|org|net|gov|io|ru|de|xn--\w+)(?![\w@+-]|\.\w)"
    r"|(?<![\w.@+-])(?:\d{1,2}\.){3}\d{1,2}(?![\w.@+-])",
    re.IGNORECASE,
)
"""As linkify-it and GitHub find links in text, and wider."""
_TEXTS = ("text", "code_inline", "code_block", "fence")


def active_content(markdown: str, *, allowed_urls: Collection[str] = ()) -> list[str]:
    """Return images, HTML, and links and addresses that are not allowed, as a renderer reads the text."""
    found: list[str] = []
    _look_at(_RENDERER.parse(markdown), found, allowed_urls)
    return found


def hidden_content(markdown: str, *, allowed_urls: Collection[str] = ()) -> list[str]:
    """Return images, HTML, and links whose words are not their address. An address that is read is text."""
    found = active_content(markdown, allowed_urls=allowed_urls)
    return [one for one in found if one.startswith(("image ", "html_", "link "))]


def _look_at(tokens: list[Token], found: list[str], allowed_urls: Collection[str]) -> None:
    for token in tokens:
        if token.type in ("image", "html_inline", "html_block"):
            found.append(f"{token.type} {token.content}")
        elif token.type == "link_open" and token.attrGet("href") not in allowed_urls:
            found.append(f"link {token.attrGet('href')}")
        elif token.type in _TEXTS:
            text = token.content
            for url in allowed_urls:
                text = text.replace(url, "x")
            found.extend(_LINK_LIKE.findall(text))
        _look_at(token.children or [], found, allowed_urls)
