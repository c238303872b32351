"""The readable numpy way of all that is also compiled: rounding, codes, quantising, one tensor-core step."""
