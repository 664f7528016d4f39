"""Loops over time in machine code, built once a machine where there is a compiler; torch does the same where there is none."""
