"""Facts of internal systems, such as the state of an order, are read while an answer is written."""
# ``Option`` has the types of its doors.
# pyright: reportMissingParameterType=false

from assistant.option import Option


class Live(Option):
    help = "Try connectors of live systems."

    def tables(self):
        from assistant.options.live.section import TABLES

        return TABLES

    def contradictions(self, tenant):
        from assistant.options.live.section import contradictions

        return contradictions(tenant)

    def warnings(self, tenant):
        from assistant.options.live.commands import confusable_of

        return confusable_of(tenant)

    def beside(self, services):
        from assistant.options.live.examples import LiveExamples

        return LiveExamples(services)

    async def live(self, stores, settings, observer):
        from assistant.options.live.opened import open_live

        return await open_live(stores, settings, observer)

    async def contexts(self, settings, tenants, cached, stack, clock):
        from assistant.options.live.contexts import open_contexts

        return await open_contexts(settings, tenants, cached, stack, clock)

    def routes(self):
        from assistant.options.live import routes
        from assistant.service.app import Routes

        return Routes(routes.router, read=routes.REQUEST_BODIES)

    async def parts(self, served, stores):
        from assistant.options.live.opened import open_reads

        return await open_reads(served, stores)

    def head(self):
        from assistant.options.live.commands_fit import HEAD

        return HEAD

    def stacks(self):
        from assistant.options.live.stack import LiveStacks

        return LiveStacks()


OPTION = Live()
