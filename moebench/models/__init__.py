"""Everything that can be measured: the decoder that suites train, its routers, and what is made of trained weights."""
