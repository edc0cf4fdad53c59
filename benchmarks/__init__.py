"""What isocline costs: each measurement is one command."""
