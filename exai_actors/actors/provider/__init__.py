"""The actor that owns the capacity of one provider."""
