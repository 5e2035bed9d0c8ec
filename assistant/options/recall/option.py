"""What the option for recalls brings to the core: replies that were sent on words of a document become a work
list when these change or go.

``joins``: name of a place in the core = "module:name" below this folder.
"""

from assistant.option import Option

OPTION = Option(
    needs=("desk", "feedback"),
    joins={
        "keys of TenantConfig": "section:RecallTenant",
        "parts of a tenant": "opened:open_recall",
        "runs of a tenant": "opened:run_recall",
        "routes": "routes:router",
        "bodies of routes": "routes:REQUEST_BODIES",
        "lines of routes": "routes:STREAMED_LINES",
    },
)
