"""JSON Schemas of what `--json` prints, one file a document."""
