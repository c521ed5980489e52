"""Figures of hardware and models, each with its source."""
