"""Model bundles: folders of weights (`bundle`) and the engines that run them (`session`).

Each engine hides behind one file (`onnx`, `openvino`) and is imported only when a session is opened.
Nothing here knows photographs, boxes or classes.
"""
