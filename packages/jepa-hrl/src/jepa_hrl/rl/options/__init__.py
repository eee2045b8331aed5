"""Options: mined from rollouts, trained, and compared with a policy that has none."""
