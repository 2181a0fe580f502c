"""What the samples say: numbers in, numbers out; nothing here measures or prints."""
