"""What actors say to each other: one closed union per receiver."""
