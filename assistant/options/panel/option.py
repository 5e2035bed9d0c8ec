"""What this option brings to the core."""

from assistant.option import Option

OPTION = Option(
    joins={
        "parts of a tenant": "codes:open_codes",
        "routes": "routes:router",
        "bodies of routes": "routes:REQUEST_BODIES",
    }
)
