"""What is done with checkpoints: in what order, and what an interruption leaves to finish."""
