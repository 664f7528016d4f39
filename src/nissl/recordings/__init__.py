"""What is this recording? Opened, homogenised, wired, simulated."""
