"""A project's labelled photos in, networks and heads of its own out: what `carspotter train PROJECT` does."""
