"""A small model on this machine, in a child process: llama.cpp's server with SmolLM2 135M."""
