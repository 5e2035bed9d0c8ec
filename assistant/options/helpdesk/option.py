"""The reference helpdesk of the demo: a patient's window, the agents' desk, simulated patients."""
# ``Option`` has the types of its doors.
# pyright: reportMissingParameterType=false

from assistant.option import Option


class Helpdesk(Option):
    needs = ("live", "panel", "reply")

    def sample_pages(self, layout, addresses, systems):
        from assistant.options.helpdesk.laptop import open_helpdesk

        return open_helpdesk(layout, addresses, systems)

    def show_pages(self, runtime, terminal):
        from assistant.options.helpdesk.laptop import show_pages

        show_pages(runtime, terminal)


OPTION = Helpdesk()
