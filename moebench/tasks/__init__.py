"""Tasks of lm-eval on any subject: the adapter that answers its requests, and what a suite must know of its tasks.

lm-eval is imported where a task is loaded or run, and nowhere else: `pip install 'moebench[eval]'`. Nothing of a model
is known here beyond `models.subject`.
"""
