"""Serves reports to a browser: a small read-only HTTP server over a store of any kind.

Readers need no credentials for the store, and pages of the store need not be trusted: each runs in
a sandbox, without access to the network, to other pages or to the UI.

- `server`: the HTTP server, its limits, and which hosts it answers as.
- `pages`: which paths are pages, and what a browser lets each of them do.
- `index`: the page that lists all others.
"""
