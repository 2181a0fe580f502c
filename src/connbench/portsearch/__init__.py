"""The kernel's port search as a model: what connect() would find and what it would look at, without a socket.

`simulate` walks a round's plan and leaves a `Walk` a phase; `windows` has the failures to expect of random windows.
"""
