"""The two dialects, each with a reader (frames in) and a writer (answers out)."""
