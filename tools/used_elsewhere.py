"""What vulture takes for unused in `src`, and who uses it. `make check` reads this; it is never run."""
# ruff: noqa: B018, F821

# Called by a library.
_.__getattr__, _.__dir__, _.__doc__, _.__signature__, _.__annotations__  # Python itself
_.forward  # torch
_.get_next  # ONNX Runtime's calibration
_.closed, _.allowed_domains  # Scrapy
_._repr_html_  # notebooks
_.handlers, _.overflow  # logging, rich
_.short_description, _.license, _.doc_string  # coremltools and onnx write them into files
_.log_severity_level, _.intra_op_num_threads, _.inter_op_num_threads, _.execution_mode  # ONNX Runtime
_.graph_optimization_level, _.enable_cpu_mem_arena  # ONNX Runtime
_.model_config, _.spool_max_size  # pydantic, python-multipart
_.guard, _.livez, _.readyz, _._invalid, _._fault  # routes and handlers of FastAPI
_.interval_bar  # the template of the report

# Fields that a report, a JSON or a person reads.
_.p_holm, _.make_by_ad, _.known_model, _.at_95, _.at_99, _.right_by_ad, _.top1_by_ad, _.unjudged, _.decidable

# For people who call the package; docs/ shows how.
_.read_tfrecord, _.read_webdataset
_.verify, _.read_review, _.add_taxonomy, _.unknown_auroc
_.recall_by_size  # benchmarks/finder_figures.py
