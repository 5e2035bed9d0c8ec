"""The console in a page of a helpdesk, opened by one-time codes, unasked suggestions in the chat there, and
the note of a conversation.
"""
# ``Option`` has the types of its doors.
# pyright: reportMissingParameterType=false

from assistant.option import Option


class Panel(Option):
    def tables(self):
        from assistant.options.panel.section import TABLES

        return TABLES

    def routes(self):
        from assistant.options.panel import routes
        from assistant.service.app import Routes

        return Routes(routes.router, read=routes.REQUEST_BODIES)

    async def parts(self, served, stores):
        from assistant.options.panel.opened import open_panel

        return await open_panel(served, stores)

    def trials(self):
        from assistant.options.panel.fitting import TRIALS

        return TRIALS


OPTION = Panel()
