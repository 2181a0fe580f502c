"""What connect() does in the kernel, seen from outside: bpftrace programs, the child that runs them, and counts."""
