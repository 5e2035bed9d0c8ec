"""Counts for managers of what was asked, how it was answered, and what agents did with it."""
# ``Option`` has the types of its doors.
# pyright: reportMissingParameterType=false

from assistant.option import Option


class OverviewOption(Option):
    def tables(self):
        from assistant.options.overview.section import TABLES

        return TABLES

    def routes(self):
        from assistant.options.overview.routes import router
        from assistant.service.app import Routes

        return Routes(router)

    async def parts(self, served, stores):
        from assistant.options.overview.overview import open_overview

        return await open_overview(served, stores)

    def runs(self, served):
        from assistant.options.overview.overview import run_overview

        return run_overview(served)


OPTION = OverviewOption()
