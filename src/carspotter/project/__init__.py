"""A project's folder in, a dataset, a learned bundle and a report out: the stages put in order.

It reads tables from the catalogue, hands their rows to the stages and appends what they answer. What a stage finds out
is the stage's work.
"""
