"""Live facts: connectors of internal systems, whose data may be read, and markup that is filled with it."""
