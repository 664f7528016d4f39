"""Recordings in files: one reader a format, what they leave open, and how they are written."""
