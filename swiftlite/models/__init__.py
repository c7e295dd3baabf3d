"""Which model: registry, one file a family, loading, dummy weights, the embedded nano."""
