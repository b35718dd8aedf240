"""A causal language model of transformers as a `Subject`: the only package that imports transformers.

transformers is optional: what needs it says `pip install 'moebench[hf]'` where it is absent. Nothing here decides what
may be loaded: `checkpoints` has read and refused before a weight is.
"""
