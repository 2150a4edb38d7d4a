"""`exai demo`: a broker shares a scarce provider between two sessions."""
