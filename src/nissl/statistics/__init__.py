"""Is it more than chance? Surrogates, permutations, intervals and matching, shared by all rooms."""
