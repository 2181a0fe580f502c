"""The measured process: its network namespace, its listener, its workers, and the loop that calls connect().

`launcher` runs in the parent and starts `python -m connbench.engine` for each round. In that process `network` makes
the namespace, `listener` listens, and `scheduler` forks `worker` processes, each of which runs `loop` on its `task`.
"""
