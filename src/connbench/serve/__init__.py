"""`connbench serve`: a server that accepts connections and holds them open, as a target for `connbench run`."""
