"""Every strategy on a language model and on a sentence encoder: figures of docs/llm.md."""
