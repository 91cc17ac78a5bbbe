"""A company driven by Hypothesis beside one that is nothing but the rules of the game in plain Python."""
