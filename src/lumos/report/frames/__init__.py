"""Records as frames for notebooks, one file per answer."""
