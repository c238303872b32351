"""The three products of a linear layer under one recipe."""
