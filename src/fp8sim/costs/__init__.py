"""What a matrix multiply costs from shapes alone, on which device."""
