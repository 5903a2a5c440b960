"""Pages, tables and figure style shared by all studies; imports no study."""
