"""Populations whose truth is known, seeded and fast."""
