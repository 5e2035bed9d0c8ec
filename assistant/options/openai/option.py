"""Clients of OpenAI's API: ``POST /v1/chat/completions`` with the answers of ``POST /v1/answers``."""

from assistant.option import Option


class OpenAi(Option):
    def tables(self):
        from assistant.options.openai.section import TABLES

        return TABLES

    def routes(self):
        from assistant.options.openai import routes
        from assistant.service.app import Routes

        return Routes(raw=routes.ROUTES, read=routes.REQUEST_BODIES, written=routes.WRITTEN)


OPTION = OpenAi()
