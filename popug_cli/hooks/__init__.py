"""Running hooks: the operator's own programs, which receive events. Their cursors are in the bus."""
