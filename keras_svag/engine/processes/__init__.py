"""Worker processes that execute runs in parallel, and preemption."""
