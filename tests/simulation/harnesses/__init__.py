"""The harnesses themselves: what each of them sees, and how soon."""
