"""Question → retrieve → gate → prompt → generate → attribute → stream → record."""
