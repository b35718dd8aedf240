"""The decoder that every model of a suite is an instance of; dense and MoE differ in the FFN alone."""

from moebench.models.decoder.transformer import KVCache, Output, Transformer, build

__all__ = ["KVCache", "Output", "Transformer", "build"]
