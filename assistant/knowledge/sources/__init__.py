"""Files and folders → canonical documents. ``reader`` needs the worker's parsers, ``items`` nothing."""
