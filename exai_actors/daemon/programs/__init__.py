"""Other people's client programs: how each is started or configured for the broker."""
