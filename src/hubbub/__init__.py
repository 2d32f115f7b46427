"""Hubbub: people, AI assistants and devices in one live, durable conversation."""

__version__ = "0.1.0"
