"""What this option brings to the core."""

from assistant.option import Option

OPTION = Option(
    joins={
        "keys of TenantConfig": "section:OpenAiTenant",
        "raw routes": "routes:ROUTES",
        "bodies of routes": "routes:REQUEST_BODIES",
        "lines of routes": "routes:WRITTEN",
    }
)
