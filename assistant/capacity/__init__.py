"""How many instances an LLM endpoint needs: timings of a server, a simulation of its batching, a plan."""
