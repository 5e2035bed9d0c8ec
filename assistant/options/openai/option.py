"""What the option for clients of OpenAI's API brings to the core: ``POST /v1/chat/completions`` with the
answers of ``POST /v1/answers``.

``joins``: name of a place in the core = "module:name" below this folder.
"""

from assistant.option import Option

OPTION = Option(
    joins={
        "keys of TenantConfig": "section:OpenAiTenant",
        "raw routes": "routes:ROUTES",
        "bodies of routes": "routes:REQUEST_BODIES",
        "lines of routes": "routes:WRITTEN",
    }
)
