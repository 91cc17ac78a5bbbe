"""The migrations, in order; the statements of a landed one never change."""
