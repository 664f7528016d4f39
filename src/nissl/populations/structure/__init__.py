"""Structure meets function: wiring beside functional connectivity, with nulls."""
