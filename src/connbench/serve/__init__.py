"""Processes that accept connections and hold them: for `--listener accept`, and for `connbench serve`."""
