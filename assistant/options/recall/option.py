"""What this option brings to the core."""

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
