"""The primitives of the language, one file for each family."""
