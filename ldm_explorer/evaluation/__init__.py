"""Measures of reconstruction and generation, in the features of a small classifier of our own."""
