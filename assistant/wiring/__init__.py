"""The only place that chooses adapters: builds what each process needs from its settings.

Adapters are imported where they are chosen, and engines by their adapter on first use, so that a process
loads only what it uses.
"""
