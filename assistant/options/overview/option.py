"""What the overview for managers brings to the core: counts of what was asked, how it was answered, and what
agents did with it.

``joins``: name of a place in the core = "module:name" below this folder.
"""

from assistant.option import Option

OPTION = Option(
    joins={
        "keys of TenantConfig": "section:OverviewTenant",
        "parts of a tenant": "overview:open_overview",
        "runs of a tenant": "overview:run_overview",
        "routes": "routes:router",
    },
)
