"""Nouns, rules and formats: no await, no clock, no I/O. Everything above imports from here, never the reverse."""
