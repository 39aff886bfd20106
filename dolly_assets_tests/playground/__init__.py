"""The playground without its page: answers, conversations, votes, and what surrounds requests.

`hostile` is a server of models for the tests of the page, in `ui`.
"""
