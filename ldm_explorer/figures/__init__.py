"""A result in, a plotly Figure out."""
