"""What the panel brings to the core: the console in a page of a helpdesk, which opens it by one-time codes.

``joins``: name of a place in the core = "module:name" below this folder.
"""

from assistant.option import Option

OPTION = Option(
    joins={
        "parts of a tenant": "codes:open_codes",
        "routes": "routes:router",
        "bodies of routes": "routes:REQUEST_BODIES",
    }
)
