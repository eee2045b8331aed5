"""Proximal policy optimisation and REINFORCE."""
