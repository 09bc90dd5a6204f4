//! The data plane's stages in packet order, and the poll loop that runs them.
