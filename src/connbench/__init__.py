"""connbench: what each ephemeral-port strategy costs connect(), per port parity."""

__version__ = "0.1.0"
