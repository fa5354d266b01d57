"""Pictures and data sets: reading, listing, splitting, transforming; knows no network."""
