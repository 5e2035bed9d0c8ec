"""What agents did with answers goes into a store by day, reviewers correct and approve answers, serving loads
what they decide without a restart, and replies that were sent on words which changed become a work list.
"""
# ``Option`` has the types of its doors.
# pyright: reportMissingParameterType=false

from typing import ClassVar

from assistant.option import Option


class Desk(Option):
    help = "Show recorded answers and how they were made; list who saw what."
    extras: ClassVar = {"learning": "patients"}

    def tables(self):
        from assistant.options.desk.section import TABLES

        return TABLES

    def kept_texts(self):
        from assistant.options.desk.opened import KEPT

        return KEPT

    def offer(self, services):
        from assistant.options.desk.approved import OfferApproved

        return OfferApproved(services)

    def texts(self, documents, desk):
        from assistant.options.desk.approved import TextsWithApproved

        return TextsWithApproved(documents, desk)

    def replacer(self):
        from assistant.options.desk.patients_opened import replace_patients_data

        return replace_patients_data()

    def routes(self):
        from assistant.options.desk import routes
        from assistant.service.app import Routes

        return Routes(routes.router, read=routes.REQUEST_BODIES, written=routes.STREAMED_LINES)

    async def parts(self, served, stores):
        from assistant.options.desk.opened import open_desk

        return await open_desk(served, stores)

    def runs(self, served):
        from assistant.options.desk.opened import run_desk

        return run_desk(served)

    async def admit_verdict(self, served, answer_id, verdict, identity):
        from assistant.options.desk.opened import admit_verdict

        await admit_verdict(served, answer_id, verdict, identity)

    def loops(self, settings):
        from assistant.options.desk.opened import open_movers

        return open_movers(settings)

    def add_to_learn(self, app):
        from assistant.options.desk.commands_learn import add_to_learn

        add_to_learn(app)

    async def tell_story(self, runtime, terminal, tenant):
        from assistant.options.desk.commands_demo import tell_desk_story

        await tell_desk_story(runtime, terminal, tenant)

    def trials(self):
        from assistant.options.desk.trial import TRIALS

        return TRIALS

    def schemas(self):
        from assistant.options.desk.events import SCHEMAS

        return SCHEMAS

    def stacks(self):
        from assistant.options.desk.stack import DeskStacks

        return DeskStacks()


OPTION = Desk()
