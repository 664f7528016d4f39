"""What do two populations share? Types of units, matched and told apart."""
