"""Measures what the talk measured, and checks the talk's claims against it."""
