"""Who may do what on a domain with fine-grained access control, and what its audit log holds."""
