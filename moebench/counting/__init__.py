"""Parameters, FLOPs and bytes of a model from its sizes: arithmetic alone, no torch."""
