"""Uses tools by LangChain's adapters and prints JSON, in the clients' own environment:
``ask_langchain.py [[TOOL, ARGUMENTS], …]``.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import json
import os
import sys

from langchain_mcp_adapters.client import MultiServerMCPClient


async def main(calls: str) -> None:
    server = {
        "transport": "streamable_http",
        "url": os.environ["ASSISTANT_URL"] + "/v1/mcp",
        "headers": {"Authorization": f"Bearer {os.environ['ASSISTANT_TOKEN']}"},
    }
    tools = {tool.name: tool for tool in await MultiServerMCPClient({"assistant": server}).get_tools()}
    texts: list[str] = []
    for name, given in json.loads(calls):
        said = await tools[name].ainvoke(given)
        texts.append(said if isinstance(said, str) else "".join(part["text"] for part in said))
    sys.stdout.write(json.dumps({"tools": [*tools], "texts": texts}))


asyncio.run(main(sys.argv[1]))
