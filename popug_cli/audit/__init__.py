"""The doctor: the only package that reads the tables of all modules. It writes none."""
