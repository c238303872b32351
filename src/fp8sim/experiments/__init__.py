"""What FP8 saves and costs, measured: claims, comparisons, model accounting, training, sweeps."""
