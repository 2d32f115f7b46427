"""Doors: loops that feed a session with payloads and write what it has to say. Each knows the hub, none another."""
