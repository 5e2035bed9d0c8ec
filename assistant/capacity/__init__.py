"""How many instances an LLM endpoint needs: times of a server, a simulation of its batching, a plan."""
