"""lumos: performance model of large-scale LLM training, from real PyTorch traces."""
