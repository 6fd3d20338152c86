"""Tools around the model."""
