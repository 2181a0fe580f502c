"""`connbench calibrate`: what connect() and each port that it probes cost on this machine, measured in seconds."""
