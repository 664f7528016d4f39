"""What is this brain doing? Models fitted to recordings, each beside a simple baseline."""
