"""`connbench fleet` and `connbench agent`: the same measurement on many hosts."""
