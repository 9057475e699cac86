"""How `models/blur/plates.onnx` is made: number plates are drawn and pasted onto photographs, and a network finds them.

No photograph is part of the project: the tool takes folders of yours. Nothing here is in the wheel.
"""
