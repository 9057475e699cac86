"""Training: a recipe and labelled photos in, a run folder with checkpoints and a log out. It needs the extra `train`.

The loop knows no task: what is learnt (`identifier`, `finder`) is a `Task` beside it. Export to ONNX is not done here.
"""
