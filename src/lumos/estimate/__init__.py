"""What a piece of work costs on a piece of hardware, and where each number comes from."""
