"""The kernel's port search as a model: what connect() would find and what it would look at, without a socket.

`simulate` walks a round's plan and leaves a `Walk` a phase; `windows` has the failures to expect of random windows.
`predict` makes predictions of plans and lays them beside results, `fit` takes from those what a search costs, and
`advice` says what to do. What reports need of all that, `prediction`, `calibration`, `agreement` and `counsel`, loads
no network.
"""
