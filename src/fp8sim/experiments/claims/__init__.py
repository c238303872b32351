"""The article's sentence, taken apart: each part measured, set beside what is published, and judged."""
