"""Behavioural cloning of the programs that synthetic problems were made with."""
