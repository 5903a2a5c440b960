"""Pages, tables and figures, as studies need them; knows no study."""
