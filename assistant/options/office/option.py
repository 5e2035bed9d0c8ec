"""Readers of PDF, Word, PowerPoint, Excel and e-mails."""

from assistant.option import Option


class Office(Option):
    def kinds_of_files(self):
        from assistant.options.office.kinds import KINDS

        return KINDS


OPTION = Office()
