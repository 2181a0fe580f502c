"""What the kernel offers, each behind a small function: options, sysctls, namespaces, counters, limits."""
