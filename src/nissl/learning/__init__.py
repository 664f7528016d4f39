"""How did it come to be so? Learners and what they know."""
