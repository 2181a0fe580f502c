"""The kernel's port search as a model: what connect() would find, worked out without a socket."""
