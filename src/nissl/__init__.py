"""Make individual neurons visible."""
