"""The parts of tools/make_gguf.py: random blocks, random models of a given shape, and conversion from Hugging Face folders."""
