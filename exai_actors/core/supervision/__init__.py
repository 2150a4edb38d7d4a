"""Supervision after OTP's model: which child is started, restarted or stopped, and when."""
