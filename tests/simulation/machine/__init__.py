"""A company driven by Hypothesis, compared with a model of the rules in plain Python."""
