"""Program search: from demonstrations to programs."""
