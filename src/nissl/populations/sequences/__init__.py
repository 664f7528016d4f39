"""Sequences of activity: replay of experience, order across events, sequences without a template."""
