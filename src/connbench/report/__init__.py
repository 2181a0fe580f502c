"""Results as text, one function a format: each takes a `Result` and returns what is to be printed or written."""
