"""Doors for clients that were written for something else, unchanged."""
