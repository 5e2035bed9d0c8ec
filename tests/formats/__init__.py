"""PDF read against truths that other people wrote, and against rendered ones."""
