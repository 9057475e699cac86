"""Labels: sellers' words in, taxa and classes out, each with who said so. It needs the extra `data`."""
