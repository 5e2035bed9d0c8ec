"""What a tenant costs an hour, on and paused: read off its templates, by a dated file of prices."""
