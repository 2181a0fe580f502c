"""`python -m connbench` is the `connbench` command."""

from connbench.cli import main

main()
