"""The panels of the page, one a file: records -> what a template draws."""
