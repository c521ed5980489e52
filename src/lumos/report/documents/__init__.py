"""Records as plain dictionaries for `--json`, one file per answer."""
