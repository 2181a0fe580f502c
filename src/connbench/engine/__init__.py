"""The measured process: its namespace, its listener, its chain of holders, and the loop that calls connect()."""
