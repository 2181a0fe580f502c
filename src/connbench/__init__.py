"""connbench: what each ephemeral-port strategy costs connect(), per port parity."""

__version__ = "1.0.0"
