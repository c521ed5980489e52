"""Records as text for a terminal, one file per answer."""
