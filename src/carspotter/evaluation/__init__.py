"""Figures, pages of mistakes and comparisons from prediction tables. It runs no network and opens no catalogue."""
