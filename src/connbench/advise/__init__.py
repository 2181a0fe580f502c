"""`connbench advise`: the command and the report of what the package `advice` finds."""
