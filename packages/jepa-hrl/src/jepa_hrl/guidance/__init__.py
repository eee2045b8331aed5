"""Networks that guide the program search: a prior over primitives and a policy over steps."""
