"""The actor-critic, its greedy evaluation, rollouts, and the search that it guides."""
