"""The playground without its page: answers, conversations, votes, and what surrounds requests."""
