"""Answer over HTTP: an API for programs, pages for people; needs the extra `serve`.

Modules here import FastAPI and uvicorn at their top: importing them means that one wants to serve. The exceptions are
`batching`, `keys` and `browser`, which need neither.
"""
