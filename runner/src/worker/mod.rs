//! The roles that run tasks: processor, forwarder, recoverer, heartbeat, janitor, canceller, resettler.
