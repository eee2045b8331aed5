"""What RLAN minimises."""
