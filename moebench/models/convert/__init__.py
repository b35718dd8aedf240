"""Decoders to and from checkpoints of transformers, without transformers: one table of families in both directions.

`families` says what each class of transformers computes and what its keys are in the words of a suite; `words` reads a
configuration with it, `config` writes one; `tensors` says where each tensor stands in ours, for reading and writing.
"""
