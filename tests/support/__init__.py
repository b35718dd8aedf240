"""What tests share: small models, routers and corpora, suites of seconds, and results folders with known answers."""
