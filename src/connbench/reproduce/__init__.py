"""The talk's measurements again: what to run, what the talk published, and whether its claims hold here."""
