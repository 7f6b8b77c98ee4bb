"""Measurements, side by side in one process: ratios of medians, never a pass or a fail."""
