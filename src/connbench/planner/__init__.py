"""From a request to a `Plan`: fills in the defaults, and checks everything that can be checked before the run."""
