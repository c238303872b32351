"""The report: one self-contained page, its pictures, and the verdict as a picture of its own."""
