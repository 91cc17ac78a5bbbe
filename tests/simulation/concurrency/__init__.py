"""Many processes at once on one home: whatever they do together, nothing fails, nothing is lost, the books balance."""
