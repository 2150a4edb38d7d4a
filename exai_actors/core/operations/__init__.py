"""What operators can ask and do: decisions without input or output."""
