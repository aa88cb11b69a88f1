"""What is learned, and the tick that joins all ranks."""
