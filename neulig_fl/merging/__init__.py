"""Portland, CoopVecs, merged inference, merge methods, and the statistics that they need."""
