//! The pool against its oracle, its indices against one another, and the cases worth a name.

mod check;
mod named;
mod oracle;
mod steps;
