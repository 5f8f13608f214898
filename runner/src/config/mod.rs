//! Settings: reads the configuration file and the environment; the only place that does.
