//! The roko node: command line, configuration, wiring, shutdown.
