"""The documentation: pages in Markdown, the source of their diagrams, and the build of the site."""
