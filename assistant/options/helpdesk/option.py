"""What the reference helpdesk brings to the demo: a patient's window, the agents' desk, simulated patients.

``joins``: name of a place = "module:name" below this folder.
"""

from assistant.option import Option

OPTION = Option(
    needs=("live", "panel"),
    joins={
        "pages of sample systems": "laptop:open_helpdesk",
        "pages of the demo": "laptop:show_pages",
    },
)
