"""A results folder read without trusting it: runs, speed sessions, sweeps, and what was seen before."""
