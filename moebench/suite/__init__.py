"""The suite file: its types, and how it is read, merged and checked."""
