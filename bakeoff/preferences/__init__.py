"""What people prefer, to a reward model."""
