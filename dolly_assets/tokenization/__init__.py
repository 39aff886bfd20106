"""What a prompt looks like, and how text becomes labelled token ids."""
