"""Speed and memory of the core, against a plain transcription of the paper."""

import os

# Read when torch is imported: the profiler would print its own log between the rows.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
