"""Training sets, training and compile jobs, and candidates of JumpStart."""
# ``Option`` has the types of its doors.
# pyright: reportMissingParameterType=false

from typing import ClassVar

from assistant.option import Option


class ModelsLab(Option):
    extras: ClassVar = {"corpus": "corpus", "lambda": "make_sets"}
    # Training sets are made of the desk's events and approved answers, and of replies (training_sets.py).
    needs = ("desk", "reply")

    def tables(self):
        from assistant.options.models_lab.section import TABLES

        return TABLES

    def add_to_models(self, app):
        from assistant.options.models_lab.commands import add_to_models

        add_to_models(app)

    def add_to_knowledge(self, app):
        from assistant.options.models_lab.commands import add_to_knowledge

        add_to_knowledge(app)

    def add_to_learn(self, app):
        from assistant.options.models_lab.commands import add_to_learn

        add_to_learn(app)

    def stacks(self):
        from assistant.options.models_lab.stack import LabStacks

        return LabStacks()


OPTION = ModelsLab()
