"""Traces connect() in the kernel: the bpftrace programs, the child process that runs them, and their counts."""
