"""A project of your own: families and other assets in one code location."""
