"""Answers from a model: scoring them, sampling them, chatting."""
