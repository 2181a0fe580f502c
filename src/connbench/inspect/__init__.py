"""How full each port space of a host is right now, and what the next connect() there will cost."""
