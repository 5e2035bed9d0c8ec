"""What the option for suggestions brings to the core: unasked ones in a running chat, one section at most.

``joins``: name of a place in the core = "module:name" below this folder.
"""

from assistant.option import Option

OPTION = Option(
    joins={
        "keys of TenantConfig": "section:SuggestTenant",
        "parts of a tenant": "opened:open_suggestions",
        "routes": "routes:router",
        "bodies of routes": "routes:REQUEST_BODIES",
        "commands of learn": "commands:add_to_learn",
        "heads to fit": "fitting:HEAD",
        "trials": "fitting:TRIALS",
    }
)
