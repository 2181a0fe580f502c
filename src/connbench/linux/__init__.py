"""What connbench uses of the Linux kernel: socket options, sysctls, namespaces, interfaces, counters, limits."""
