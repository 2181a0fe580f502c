"""Computes figures from samples; nothing here measures or prints."""
