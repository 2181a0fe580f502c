"""What `connbench advise` does: which strategy keeps N connections fast, with its reasons and code to paste."""
