"""A disk that can kill, fail and forget: the basis of the kill, fault and power-cut harnesses."""
