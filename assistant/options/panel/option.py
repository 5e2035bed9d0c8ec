"""What the panel brings to the core: the console in a page of a helpdesk, opened by one-time codes, unasked
suggestions in the chat there, and the note of a conversation.

``joins``: name of a place in the core = "module:name" below this folder.
"""

from assistant.option import Option

OPTION = Option(
    joins={
        "keys of TenantConfig": "section:PanelTenant",
        "parts of a tenant": "opened:open_panel",
        "routes": "routes:router",
        "bodies of routes": "routes:REQUEST_BODIES",
        "commands of learn": "commands:add_to_learn",
        "heads to fit": "fitting:HEAD",
        "trials": "fitting:TRIALS",
    }
)
