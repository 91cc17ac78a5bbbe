"""The published language: commands, queries, their results, and events; everything that crosses a boundary."""
