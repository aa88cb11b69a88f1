"""What a checkpoint holds, for people."""
