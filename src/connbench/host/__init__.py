"""The machine: what it is, and what on it would spoil a measurement."""
