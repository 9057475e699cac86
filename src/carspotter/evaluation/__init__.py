"""Prediction tables in; figures, pages of mistakes and comparisons out. It runs no network and opens no catalogue."""
