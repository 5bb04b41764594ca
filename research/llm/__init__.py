"""Every strategy on a language model and on a sentence encoder (docs/measurements/llm.md)."""
