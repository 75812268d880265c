"""What `make gpu` does in nine minutes on a GPU: the tests of tests/cuda, and milliseconds beside their bars."""
