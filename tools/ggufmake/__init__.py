"""The parts of make_gguf.py: random blocks, random models of known shapes, and conversion."""
