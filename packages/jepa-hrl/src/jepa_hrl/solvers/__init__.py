"""What answers tasks: the program search, plain or guided, and the active reasoner."""
