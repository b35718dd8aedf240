"""Checkpoints of transformers as files: where one lies, what is in it, and whether it can be measured here.

Everything that can be refused is refused from `config.json`, the tokenizer's file and the headers of the safetensors
files, before a weight is read. Files are untrusted: no pickle, no code, no link out of the folder, no network unless
`online` is said. Loads no torch and no transformers; `models.hf` makes the model.
"""
