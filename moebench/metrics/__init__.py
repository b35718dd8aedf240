"""What is measured on a model: one file a kind of number. `speed` is the only one that reads a clock.

A metric is added by writing its function here, its line in `records.METRICS`, and its line in `run.MEASUREMENTS`.
"""
