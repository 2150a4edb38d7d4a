"""What the benchmark's servers answer: as long as the synthetic provider's usual text."""

TEXT = "a short answer that is about as long as the synthetic provider's usual text is, give or take"
