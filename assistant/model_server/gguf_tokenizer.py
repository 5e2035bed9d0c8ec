"""A tokenizer.json made from a GGUF's own vocabulary and merges: prompts are counted without the runtime.

Only byte-level BPE vocabularies (``tokenizer.ggml.model`` = gpt2) whose way of cutting words is known here;
the names and patterns are those of llama.cpp (src/llama-vocab.cpp). For any other vocabulary put the model's
own tokenizer.json beside the GGUF.
"""
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from assistant.domain.errors import ConfigurationError

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_TIKTOKEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS: dict[str, tuple[str, ...]] = {
    "gpt-2": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2),
    "llama-bpe": (_TIKTOKEN % "{1,3}",),
    "qwen2": (_TIKTOKEN % "",),
}
_WHOLE_WORDS_FIRST = frozenset({"llama-bpe"})
"""A word that is itself in the vocabulary is taken whole, without merges."""
_CONTROL, _USER_DEFINED = 3, 4


def tokenizer_from_gguf(path: Path) -> Tokenizer:
    """Return the tokenizer of a GGUF file. Raises ConfigurationError when its kind is not known here."""
    from gguf import GGUFReader

    try:
        reader: Any = GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
        raise ConfigurationError(f"{path}: not a GGUF file: {error}") from None
    kind = _field(reader, "tokenizer.ggml.model")
    cutting = cast("str", _field(reader, "tokenizer.ggml.pre") or "gpt-2")
    if kind != "gpt2" or cutting not in _PATTERNS:
        raise ConfigurationError(
            f"{path}: its vocabulary ({kind}, {cutting}) cannot be turned into a tokenizer.json here "
            f"(gpt2 with {', '.join(sorted(_PATTERNS))} can); put the model's tokenizer.json beside the file."
        )
    tokens = cast("list[str]", _field(reader, "tokenizer.ggml.tokens"))
    merges = cast("list[str]", _field(reader, "tokenizer.ggml.merges"))
    model = BPE(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[(first, second) for first, second in (merge.split(" ", 1) for merge in merges)],
        ignore_merges=cutting in _WHOLE_WORDS_FIRST,
    )
    tokenizer = _cutting(Tokenizer(model), _PATTERNS[cutting])
    kinds = cast("list[int]", _field(reader, "tokenizer.ggml.token_type"))
    tokenizer.add_special_tokens(_added(tokens, kinds, wanted=_CONTROL))
    tokenizer.add_tokens(_added(tokens, kinds, wanted=_USER_DEFINED))
    return tokenizer


def _cutting(tokenizer: Tokenizer, patterns: tuple[str, ...]) -> Tokenizer:
    cuts = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*cuts, whole])  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    return tokenizer


def _added(tokens: list[str], kinds: list[int], *, wanted: int) -> list[AddedToken]:
    return [
        AddedToken(token, normalized=False, special=wanted == _CONTROL)
        for token, kind in zip(tokens, kinds, strict=True)
        if kind == wanted
    ]


def _field(reader: Any, name: str) -> object:
    field = reader.get_field(name)
    return None if field is None else field.contents()
