"""A disk that can be made to kill, fail and forget: what the kill, fault and power-cut harnesses stand on."""
