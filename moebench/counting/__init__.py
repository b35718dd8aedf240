"""Parameters, FLOPs and bytes of a `Blueprint`: one set of formulas for a suite's models and for published systems.

Arithmetic alone: no torch, nothing of suites or routers. Conventions, printed beside every figure that uses them:

- A multiply-add is 2 FLOPs; backward is twice forward. Matrix products count (projections, router, experts, attention,
  output head); look-ups, norms, activations, biases and the optimizer do not. Causal attention is half of its square.
- Active parameters are all parameters minus the experts a token does not use. The router is active. Tied tables count
  once. Parameters of published models are what transformers' classes hold as parameters.
- A token of an encoder-decoder is one source token and one target token, each at the given context.

Tests hold the formulas equal to the parameters of the built model and, with the full square of attention put back in,
to torch's own FLOP counter.
"""
