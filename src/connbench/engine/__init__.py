"""The measured process: its namespace, its listener, its chain of workers, and the loop that calls connect()."""
