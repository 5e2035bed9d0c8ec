"""The Model Context Protocol: ``POST /v1/mcp`` with tools over the answers of ``POST /v1/answers``."""
# ``Option`` has the types of its doors.
# pyright: reportMissingParameterType=false

from typing import ClassVar

from assistant.option import Option


class Mcp(Option):
    needs = ("openai",)  # its text of an answer
    extras: ClassVar = {"service": "tools"}
    help = "Pass a Model Context Protocol client of this machine on to the service."

    def tables(self):
        from assistant.options.mcp.section import TABLES

        return TABLES

    def routes(self):
        from assistant.options.mcp import routes
        from assistant.service.app import Routes

        return Routes(routes.router, raw=routes.ROUTES)

    async def parts(self, served, stores):  # noqa: ARG002
        from assistant.options.mcp.section import McpSection

        if not McpSection.of(served.answering.tenant).served:
            return ()
        from assistant.options.mcp.tools import ToolServer  # the SDK, which takes over a second to import

        return (ToolServer(served.answering.tenant),)


OPTION = Mcp()
