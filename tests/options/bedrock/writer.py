"""Bedrock as a writer for whole answers: it copies a line of its prompt, with the line's number."""

from __future__ import annotations

import re

import orjson

from tests.fakes.scripted_http import Exchange, Script
from tests.options.bedrock import frames

ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"
"""By which AWS's SDKs, and ours, call another address."""


def copies_a_line(holding: str) -> Script:
    """Answer each prompt with its first sentence that holds the text."""

    async def script(exchange: Exchange) -> None:
        prompt = orjson.loads(exchange.body)["messages"][-1]["content"][-1]["text"]
        number, line = next(
            found
            for found in re.findall(r"^\[(\d+\.\d+)\] (.+)$", prompt, re.MULTILINE)
            if holding in found[1]
        )
        sentence = re.split(r"(?<=\.) ", line)[0].removesuffix(".")
        await exchange.respond_in_chunks(
            frames.START,
            frames.text(sentence),
            frames.text(f" [{number}]."),
            frames.BLOCK_END + frames.stop("end_turn") + frames.USAGE,
            Content_Type="application/vnd.amazon.eventstream",
            x_amzn_RequestId="0f3b",
        )

    return script
