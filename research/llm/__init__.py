"""What the language-model experiments share: two models, texts, and how to measure."""
