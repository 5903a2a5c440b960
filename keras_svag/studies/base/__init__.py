"""The `Study` class and its parts: grid, table, verdict, files, report."""
