"""What the reference helpdesk brings to the care side: a patient's window, the agents' desk, simulated
patients.

``joins``: name of a place = "module:name" below this folder.
"""

from assistant.option import Option

OPTION = Option(
    needs=("live", "panel"),
    joins={
        "keys of CareAppConfig": "care:HelpdeskCareApp",
        "constructs of the care side": "stack:add_helpdesk",
        "exceptions of the care side": "stack:EXCEPTIONS",
        "pages of sample systems": "laptop:open_helpdesk",
        "pages of the demo": "laptop:show_pages",
    },
)
