"""Bytes to frames and back, sans-IO."""
