"""What is declared: datasets, and one folder per model family."""
