"""One small language model trained under several recipes."""
