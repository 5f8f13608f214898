//! Counters and histograms that the rooms above write and `/metrics` shows.
