"""Results read without trusting them: runs, speed sessions, sweeps, what was seen before, and what is left to do."""
