"""The tools that clients call: descriptions, argument checks, and the tools without a provider."""
