//! Operating-system services: time-stamp counter, affinity, io_uring files.
