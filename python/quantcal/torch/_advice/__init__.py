"""Parts of `advise`: inputs of several modules, runs with some quantized, reasons."""
