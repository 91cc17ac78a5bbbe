"""The doctor: it alone reads all tables, and writes none."""
