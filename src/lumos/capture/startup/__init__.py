"""A folder for PYTHONPATH: Python loads the `sitecustomize` in it when it starts."""
