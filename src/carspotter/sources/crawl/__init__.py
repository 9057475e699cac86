"""Listings of a web site: `source` starts the crawl and yields ads, `spider` asks for pages, `pages` reads them."""
