"""What observers are told."""
