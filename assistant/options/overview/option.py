"""What this option brings to the core."""

from assistant.option import Option

OPTION = Option(
    joins={
        "keys of TenantConfig": "section:OverviewTenant",
        "parts of a tenant": "overview:open_overview",
        "runs of a tenant": "overview:run_overview",
        "routes": "routes:router",
    },
)
