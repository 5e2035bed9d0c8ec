"""The data stack: buckets, tables and the search domain."""
