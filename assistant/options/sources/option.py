"""Wikis and databases are read on a schedule, and become documents."""
# ``Option`` has the types of its doors.
# pyright: reportMissingParameterType=false

from typing import ClassVar

from assistant.option import Option


class Sources(Option):
    extras: ClassVar = {"service": "task"}

    def tables(self):
        from assistant.options.sources.section import TABLES

        return TABLES

    def contradictions(self, tenant):
        from assistant.options.sources.section import contradictions

        return contradictions(tenant)

    def loops(self, settings):
        from assistant.options.sources.opened import open_syncs

        return open_syncs(settings)

    def add_to_knowledge(self, app):
        from assistant.options.sources.commands import add_to_knowledge

        add_to_knowledge(app)

    def stacks(self):
        from assistant.options.sources.stack import SourceStacks

        return SourceStacks()


OPTION = Sources()
