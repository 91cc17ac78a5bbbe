"""The published language: commands, queries, their answers, and events; everything that crosses a boundary."""
